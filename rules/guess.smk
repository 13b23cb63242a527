rule guess:
    input:
        terms=f"{BASIS}/terms.json",
        targets=expand(f"{TARGETS}/{{state}}.h5", state=TRAINING),
    output:
        model="results/{campaign}/rem/iter-000/model.json",
        plan="results/{campaign}/rem/iter-000/update.json",
    log:
        "logs/{campaign}/guess/guess.log",
    benchmark:
        "benchmarks/{campaign}/guess/guess.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("model"),
        forces=(
            update_settings() if SETTINGS["rem"]["method"] == "force_matching" else "not needed"
        ),
    script:
        "../scripts/guess.py"
