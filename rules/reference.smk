rule reference:
    input:
        topology=reference_start,
        fields=reference_fields,
    output:
        trajectory="results/{campaign}/reference/{state}.xtc",
        log="results/{campaign}/reference/{state}.csv",
        topology="results/{campaign}/reference/{state}.pdb",
    log:
        "logs/{campaign}/reference/{state}.log",
    benchmark:
        "benchmarks/{campaign}/reference/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=1440,
    params:
        settings=settings("reference", "seed"),
        state=state_point,
    script:
        "../scripts/reference.py"


rule reference_dynamics:
    input:
        sites=mapped_reference,
        trajectory=trajectories,
        topology=topology,
        fields=reference_fields,
    output:
        "results/{campaign}/reference/{state}_dynamics.trr",
    log:
        "logs/{campaign}/reference/{state}_dynamics.log",
    benchmark:
        "benchmarks/{campaign}/reference/{state}_dynamics.tsv"
    conda:
        "../envs/remcg.yaml"
    threads: 1
    resources:
        runtime=240,
    params:
        settings=[SHORT_RUN, SETTINGS["reference"]["cutoff"], SETTINGS["seed"]],
        state=state_point,
    script:
        "../scripts/reference_dynamics.py"
