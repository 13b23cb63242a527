rule model:
    input:
        model=last_model,
        plans=all_plans,
        records=all_records,
        samples=last_samples,
        targets=expand("results/{{campaign}}/target/{state}.h5", state=TRAINING),
    output:
        "results/{campaign}/model/model.json",
    log:
        "logs/{campaign}/model/model.log",
    benchmark:
        "benchmarks/{campaign}/model/model.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/model.py"
