rule reference:
    input:
        topology=os.path.relpath(CAMPAIGN.system.topology),
    output:
        trajectory="results/{campaign}/reference/{state}.xtc",
        log="results/{campaign}/reference/{state}.csv",
    log:
        "logs/{campaign}/reference/{state}.log",
    benchmark:
        "benchmarks/{campaign}/reference/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=600,
    params:
        settings=settings("reference", "seed"),
        state=state_settings,
    script:
        "../scripts/reference.py"
