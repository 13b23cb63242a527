rule reference:
    input:
        topology=reference_start,
        fields=reference_fields,
    output:
        trajectory="results/{campaign}/reference/{state}.xtc",
        log="results/{campaign}/reference/{state}.csv",
        topology="results/{campaign}/reference/{state}.pdb",
    log:
        "logs/{campaign}/reference/{state}.log",
    benchmark:
        "benchmarks/{campaign}/reference/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=1440,
    params:
        settings=settings("reference", "seed"),
        state=state_settings,
    script:
        "../scripts/reference.py"
