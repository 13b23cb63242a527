rule verdict:
    input:
        checks="results/{campaign}/verdict.tsv",
        tables="results/{campaign}/export/tables",
    output:
        touch("results/{campaign}/.verdict"),
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
