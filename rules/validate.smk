rule validate:
    input:
        model="results/{campaign}/model/model.json",
        targets=expand(f"{TARGETS}/{{state}}.h5", state=STATES),
        predictions=of_all_states("predict/{state}.h5"),
        plans=all_plans,
    output:
        numbers="results/{campaign}/validate/states.json",
        states="results/{campaign}/validate/states.tsv",
        potentials="results/{campaign}/validate/potentials.tsv",
        convergence="results/{campaign}/validate/convergence.tsv",
        rdfs=expand("results/{{campaign}}/validate/rdf_{state}.tsv", state=TABLED),
        all_rdfs=expand("results/{{campaign}}/validate/{name}.tsv", name=TOGETHER[:1]),
        all_bonded=expand("results/{{campaign}}/validate/{name}.tsv", name=TOGETHER[1:]),
        bonded=expand("results/{{campaign}}/validate/bonded_{state}.tsv", state=BONDED_TABLED),
        bonded_potentials=expand(
            "results/{{campaign}}/validate/{name}.tsv", name=BONDED_FIGURES[1:]
        ),
        distribution_figure=report(
            expand("results/{{campaign}}/validate/{name}.png", name=BONDED_FIGURES[:1]),
            caption="../workflow/report/distributions.rst",
            category="Structure",
            labels={"figure": "Bonded distributions and shapes of molecules"},
        ),
        bonded_potential_figure=report(
            expand("results/{{campaign}}/validate/{name}.png", name=BONDED_FIGURES[1:]),
            caption="../workflow/report/bonded_potentials.rst",
            category="Model",
            labels={"figure": "Bonded potentials"},
        ),
        rdf_figure=report(
            "results/{campaign}/validate/rdf.png",
            caption="../workflow/report/rdf.rst",
            category="Structure",
            labels={"figure": "Radial distribution functions"},
        ),
        potential_figure=report(
            "results/{campaign}/validate/potentials.png",
            caption="../workflow/report/potentials.rst",
            category="Model",
            labels={"figure": "Potentials"},
        ),
        density_figure=report(
            "results/{campaign}/validate/density.png",
            caption="../workflow/report/density.rst",
            category="Thermodynamics",
            labels={"figure": "Density, compressibility and pressure"},
        ),
        convergence_figure=report(
            "results/{campaign}/validate/convergence.png",
            caption="../workflow/report/convergence.rst",
            category="Learning",
            labels={"figure": "Convergence"},
        ),
    log:
        "logs/{campaign}/validate/validate.log",
    benchmark:
        "benchmarks/{campaign}/validate/validate.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/validate.py"
