checkpoint update:
    input:
        model=previous_model,
        plan=previous_plan,
        samples=previous_samples,
        records=previous_records,
        targets=expand(f"{TARGETS}/{{state}}.h5", state=TRAINING),
    output:
        model="results/{campaign}/rem/iter-{iteration,(?!000)\\d+}/model.json",
        plan="results/{campaign}/rem/iter-{iteration}/update.json",
        record="results/{campaign}/rem/iter-{iteration}/record.h5",
    log:
        "logs/{campaign}/update/iter-{iteration}.log",
    benchmark:
        "benchmarks/{campaign}/update/iter-{iteration}.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=update_settings(),
    script:
        "../scripts/update.py"
