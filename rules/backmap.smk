rule backmap:
    input:
        sites="results/{campaign}/predict/{state}.h5",
        topology=topology,
        mapping=os.path.relpath(CAMPAIGN.system.mapping),
        templates=template_trajectory,
        target="results/{campaign}/target/{state}.h5",
    output:
        atoms="results/{campaign}/backmap/{state}.h5",
        view="results/{campaign}/backmap/{state}.pdb",
        numbers="results/{campaign}/backmap/{state}.json",
    log:
        "logs/{campaign}/backmap/{state}.log",
    benchmark:
        "benchmarks/{campaign}/backmap/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=120,
    params:
        settings=settings("backmap", "system", "seed"),
    script:
        "../scripts/backmap.py"
