rule reference:
    input:
        topology=CAMPAIGN.system.topology,
    output:
        trajectory="results/{campaign}/reference/{state}.xtc",
        log="results/{campaign}/reference/{state}.csv",
    log:
        "logs/{campaign}/reference/{state}.log",
    benchmark:
        "benchmarks/{campaign}/reference/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("reference", "seed"),
        state=state_settings,
    threads: 1
    resources:
        runtime=600,
    script:
        "../scripts/reference.py"
