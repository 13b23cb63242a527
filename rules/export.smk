rule export:
    input:
        model="results/{campaign}/model/model.json",
        start=expand("results/{{campaign}}/predict/{state}.h5", state=TRAINING[:1]),
    output:
        lammps=directory("results/{campaign}/export/lammps"),
        openmm=directory("results/{campaign}/export/openmm"),
        hoomd=directory("results/{campaign}/export/hoomd"),
        gromacs=directory(expand("results/{{campaign}}/export/{name}", name=BONDED_EXPORTS)),
        tables=directory("results/{campaign}/export/tables"),
        card="results/{campaign}/model/README.md",
    log:
        "logs/{campaign}/export/export.log",
    benchmark:
        "benchmarks/{campaign}/export/export.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        states=SETTINGS["states"],
        dynamics=[SETTINGS["sample"][name] for name in ("timestep", "friction")],
    script:
        "../scripts/export.py"
