rule verdict:
    input:
        "results/{campaign}/summary.json",
    output:
        "results/{campaign}/verdict.tsv",
    log:
        "logs/{campaign}/verdict/verdict.log",
    benchmark:
        "benchmarks/{campaign}/verdict/verdict.tsv"
    localrule: True
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("validate"),
    script:
        "../scripts/verdict.py"
