checkpoint update:
    input:
        model=previous_model,
        plan=previous_plan,
        samples=previous_samples,
        records=previous_records,
        targets=expand(f"{TARGETS}/{{state}}.h5", state=TRAINING),
    output:
        model="results/{campaign}/rem/iter-{iteration}/model.json",
        plan="results/{campaign}/rem/iter-{iteration}/update.json",
        record="results/{campaign}/rem/iter-{iteration}/record.h5",
    log:
        "logs/{campaign}/update/iter-{iteration}.log",
    benchmark:
        "benchmarks/{campaign}/update/iter-{iteration}.tsv"
    wildcard_constraints:
        iteration=r"(?!000)\d{3}",  # each file on its own: a job of a cluster asks for one of them
    conda:
        "../envs/remcg.yaml"
    params:
        settings=update_settings(),
    script:
        "../scripts/update.py"
