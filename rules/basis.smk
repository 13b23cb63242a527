rule basis:
    input:
        sites=expand(f"{MAPS}/{{state}}.h5", state=TRAINING),
        facts=expand(f"{MAPS}/{{state}}.json", state=TRAINING),
    output:
        terms="results/{campaign}/basis/terms.json",
        tables=expand("results/{{campaign}}/basis/{pair}.tsv", pair=OPEN_PAIRS),
        figures=report(
            expand("results/{{campaign}}/basis/{pair}.png", pair=OPEN_PAIRS),
            caption="../workflow/report/basis.rst",
            category="Learning",
        ),
    log:
        "logs/{campaign}/basis/basis.log",
    benchmark:
        "benchmarks/{campaign}/basis/basis.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("model"),
        weights=training_weights() if OPEN_PAIRS else "not needed",
    script:
        "../scripts/basis.py"
