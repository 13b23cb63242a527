rule predict:
    input:
        model="results/{campaign}/model/model.json",
        start=nearest_samples,
        reference=f"{MAPS}/{{state}}.h5",
    output:
        "results/{campaign}/predict/{state}.h5",
    log:
        "logs/{campaign}/predict/{state}.log",
    benchmark:
        "benchmarks/{campaign}/predict/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: CAMPAIGN.sample.ranks * CAMPAIGN.sample.threads
    resources:
        mpi="mpiexec",
        tasks=CAMPAIGN.sample.ranks,
        runtime=240,
    params:
        config_file=config_file,
        settings=settings("predict", "sample", "seed"),
        state=state_settings,
        frames=CAMPAIGN.backmap.frames,
    shell:
        f"launcher='{{resources.mpi}} -n {{resources.tasks}}'; {PREDICTOR} --predict"
        " --config {params.config_file:q} --state {wildcards.state:q}"
        " --model {input.model:q} --start {input.start:q}"
        " --volume-from {input.reference:q} --output {output:q} > {log:q} 2>&1"
