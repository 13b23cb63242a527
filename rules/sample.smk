rule sample:
    input:
        model="results/{campaign}/rem/iter-{iteration}/model.json",
        plan="results/{campaign}/rem/iter-{iteration}/update.json",
        start=previous_configurations,
        reference=f"{MAPS}/{{state}}.h5",
    output:
        "results/{campaign}/rem/iter-{iteration}/sample/{state}.h5",
    log:
        "logs/{campaign}/sample/iter-{iteration}_{state}.log",
    benchmark:
        "benchmarks/{campaign}/sample/iter-{iteration}_{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: CAMPAIGN.sample.ranks * CAMPAIGN.sample.threads  # what a laptop counts; the SLURM profile counts tasks
    resources:
        mpi="mpiexec",
        tasks=CAMPAIGN.sample.ranks,
        runtime=60,
    params:
        config_file=config_file,
        settings=settings("sample", "seed"),
        state=state_settings,
    shell:
        f"launcher='{{resources.mpi}} -n {{resources.tasks}}'; {SAMPLER}"
        " --config {params.config_file:q} --state {wildcards.state:q}"
        " --model {input.model:q} --plan {input.plan:q} --start {input.start:q}"
        " --volume-from {input.reference:q} --iteration {wildcards.iteration:q}"
        " --output {output:q} > {log:q} 2>&1"


rule sample_exchange:
    input:
        model="results/{campaign}/rem/iter-{iteration}/model.json",
        plan="results/{campaign}/rem/iter-{iteration}/update.json",
        starts=all_previous_configurations,
        references=expand(f"{MAPS}/{{state}}.h5", state=TRAINING),
    output:
        expand(
            "results/{{campaign}}/rem/iter-{{iteration}}/sample/{state}.h5",
            state=EXCHANGED,
        ),
    log:
        "logs/{campaign}/sample/iter-{iteration}.log",
    benchmark:
        "benchmarks/{campaign}/sample/iter-{iteration}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: CAMPAIGN.sample.ranks * CAMPAIGN.sample.threads
    resources:
        mpi="mpiexec",
        tasks=CAMPAIGN.sample.ranks,
        runtime=240,
    params:
        config_file=config_file,
        names=TRAINING,
        settings=settings("sample", "seed"),
        states=[settings_of(state) for state in TRAINING],
        exchange_interval=CAMPAIGN.sample.exchange_interval,
    shell:
        "{resources.mpi} -n {resources.tasks} python -m remcg.sample"
        " --config {params.config_file:q} --state {params.names:q}"
        " --model {input.model:q} --plan {input.plan:q} --start {input.starts:q}"
        " --volume-from {input.references:q} --iteration {wildcards.iteration:q}"
        " --output {output:q} > {log:q} 2>&1"


rule sample_batch:
    input:
        model="results/{campaign}/rem/iter-{iteration}/model.json",
        plan="results/{campaign}/rem/iter-{iteration}/update.json",
        starts=previous_batch,
        references=batch_references,
    output:
        "results/{campaign}/rem/iter-{iteration}/batch/{batch}.h5",
    log:
        "logs/{campaign}/sample/iter-{iteration}_batch-{batch}.log",
    benchmark:
        "benchmarks/{campaign}/sample/iter-{iteration}_batch-{batch}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: CAMPAIGN.sample.ranks * CAMPAIGN.sample.threads
    resources:
        mpi="mpiexec",
        tasks=CAMPAIGN.sample.ranks,
        runtime=60 * CAMPAIGN.sample.states_per_job,
    params:
        config_file=config_file,
        names=batch_states,
        settings=settings("sample", "seed"),
        states=batch_settings,
    shell:
        "{resources.mpi} -n {resources.tasks} python -m remcg.sample --batch"
        " --config {params.config_file:q} --state {params.names:q}"
        " --model {input.model:q} --plan {input.plan:q} --start {input.starts:q}"
        " --volume-from {input.references:q} --iteration {wildcards.iteration:q}"
        " --output {output:q} > {log:q} 2>&1"


if CAMPAIGN.sample.exchange_interval:

    ruleorder: sample_exchange > sample

else:

    ruleorder: sample > sample_exchange
