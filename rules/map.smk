rule map:
    input:
        trajectory=trajectories,
        energies=reference_log,
        topology=topology,
        mapping=mapping_file,
    output:
        sites="results/{campaign}/map/{state}.h5",
        facts="results/{campaign}/map/{state}.json",
    log:
        "logs/{campaign}/map/{state}.log",
    benchmark:
        "benchmarks/{campaign}/map/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("model"),
        state=state_settings,
        orientations=SETTINGS["system"]["orientations"],
        forces=(
            [FORCES_OF, SETTINGS["system"]["force_field"], SETTINGS["reference"]["cutoff"]]
            if FORCES_OF
            else "not needed"
        ),
    script:
        "../scripts/map.py"


rule map_dynamics:
    input:
        trajectory=short_run,
        topology=topology,
        mapping=mapping_file,
    output:
        "results/{campaign}/map/dynamics/{state}.h5",
    log:
        "logs/{campaign}/map/{state}_dynamics.log",
    benchmark:
        "benchmarks/{campaign}/map/{state}_dynamics.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/map_dynamics.py"
