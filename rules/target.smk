rule target:
    input:
        sites=f"{MAPS}/{{state}}.h5",
        energies=reference_log,
        terms="results/{campaign}/basis/terms.json",
    output:
        "results/{campaign}/target/{state}.h5",
    log:
        "logs/{campaign}/target/{state}.log",
    benchmark:
        "benchmarks/{campaign}/target/{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("model"),
        forces=TRAINING if SETTINGS["rem"]["method"] == "force_matching" else "not needed",
    script:
        "../scripts/target.py"
