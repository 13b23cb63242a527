rule basis:
    input:
        sites=expand(f"{MAPS}/{{state}}.h5", state=TRAINING),
        facts=expand(f"{MAPS}/{{state}}.json", state=TRAINING),
    output:
        terms="results/{campaign}/basis/terms.json",
        tables=expand("results/{{campaign}}/basis/{pair}.tsv", pair=OPEN_PAIRS),
        figures=[
            report(
                f"results/{{campaign}}/basis/{pair}.png",
                caption="../workflow/report/basis.rst",
                category="Learning",
                labels={"figure": f"How many functions, {pair}"},
            )
            for pair in OPEN_PAIRS
        ],
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
