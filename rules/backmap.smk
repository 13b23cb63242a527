rule backmap:
    input:
        sites="results/{campaign}/predict/{state}.h5",
        topology=topology,
        mapping=mapping_file,
        templates=template_trajectory,
        template_map=template_map,
        reference=trajectories,
        reference_map=f"{MAPS}/{{state}}.h5",
    output:
        atoms="results/{campaign}/backmap/{state}.h5",
        view="results/{campaign}/backmap/{state}.pdb",
        ensemble="results/{campaign}/backmap/{state}.xtc",
        starts=expand("results/{{campaign}}/backmap/{{state}}.{ending}", ending=BACKMAP_STARTS),
        comparison="results/{campaign}/backmap/comparison/{state}.h5",
        numbers="results/{campaign}/backmap/{state}.json",
    log:
        "logs/{campaign}/backmap/{state}.log",
    benchmark:
        "benchmarks/{campaign}/backmap/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=240,
    params:
        settings=backmap_settings("predicted"),
        state=state_settings,
        template_state=template_state,
    script:
        "../scripts/backmap.py"


rule backmap_mapped:
    input:
        topology=topology,
        mapping=mapping_file,
        templates=template_trajectory,
        template_map=template_map,
        reference=trajectories,
        reference_map=f"{MAPS}/{{state}}.h5",
    output:
        atoms="results/{campaign}/backmap/mapped/{state}.h5",
        comparison="results/{campaign}/backmap/mapped/comparison/{state}.h5",
        numbers="results/{campaign}/backmap/mapped/{state}.json",
    log:
        "logs/{campaign}/backmap/mapped/{state}.log",
    benchmark:
        "benchmarks/{campaign}/backmap/mapped/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=240,
    params:
        settings=backmap_settings("mapped"),
        state=state_settings,
        template_state=template_state,
    script:
        "../scripts/backmap_mapped.py"


rule backmap_validate:
    input:
        numbers=backmapped_states(),
        atoms=of_all_states("backmap/{state}.h5"),
        comparisons=of_all_states("backmap/comparison/{state}.h5"),
        mapped_numbers=validated_states(),
        mapped_comparisons=(
            of_all_states("backmap/mapped/comparison/{state}.h5")
            if CAMPAIGN.is_backmap_validated
            else []
        ),
    output:
        table="results/{campaign}/validate/backmap.tsv",
        state_tables=expand("results/{{campaign}}/validate/backmap_{state}.tsv", state=STATES),
        state_figures=[
            report(
                f"results/{{campaign}}/validate/backmap_{state}.png",
                caption="../workflow/report/backmap_state.rst",
                category="Backmapping",
                labels={"figure": f"Backmapped structures against the reference, {state}"},
            )
            for state in TABLED
        ],
        picture=report(
            "results/{campaign}/validate/backmap_picture.png",
            caption="../workflow/report/backmap_picture.rst",
            category="Backmapping",
            labels={"figure": "Sites and atoms"},
        ),
    log:
        "logs/{campaign}/validate/backmap.log",
    benchmark:
        "benchmarks/{campaign}/validate/backmap.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/backmap_validate.py"
