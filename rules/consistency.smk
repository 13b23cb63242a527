rule consistency:
    input:
        model="results/{campaign}/model/model.json",
        sites=f"{MAPS}/{{state}}.h5",
        target=f"{TARGETS}/{{state}}.h5",
        prediction="results/{campaign}/predict/{state}.h5",
        short_run=mapped_short_run,
    output:
        numbers="results/{campaign}/consistency/numbers_{state}.json",
        curves="results/{campaign}/consistency/curves_{state}.h5",
        table="results/{campaign}/consistency/curves_{state}.tsv",
    log:
        "logs/{campaign}/consistency/state_{state}.log",
    benchmark:
        "benchmarks/{campaign}/consistency/state_{state}.tsv"
    conda:
        "../envs/remcg.yaml"
    params:
        settings=settings("seed"),
        state=state_settings,
    script:
        "../scripts/consistency.py"


rule consistency_states:
    input:
        model="results/{campaign}/model/model.json",
        targets=expand(f"{TARGETS}/{{state}}.h5", state=STATES),
        predictions=of_all_states("predict/{state}.h5"),
        states=of_all_states("consistency/numbers_{state}.json"),
        curves=of_all_states("consistency/curves_{state}.h5"),
        numbers="results/{campaign}/validate/states.json",
        guess="results/{campaign}/rem/iter-000/model.json",
        guess_samples=samples(0),
        entropy="results/{campaign}/model/relative_entropy.tsv",
    output:
        numbers="results/{campaign}/consistency/states.json",
        table="results/{campaign}/consistency/states.tsv",
        penalties="results/{campaign}/consistency/penalties.tsv",
        equation_of_state="results/{campaign}/consistency/equation_of_state.tsv",
        free_energies="results/{campaign}/consistency/free_energies.tsv",
        baseline="results/{campaign}/consistency/baseline.tsv",
        pareto="results/{campaign}/consistency/pareto.tsv",
        factor_figure=report(
            "results/{campaign}/consistency/structure_factors.png",
            caption="../workflow/report/structure_factors.rst",
            category="Structure",
            labels={"figure": "Static structure factors"},
        ),
        neighbor_figure=report(
            "results/{campaign}/consistency/neighbors.png",
            caption="../workflow/report/neighbors.rst",
            category="Structure",
            labels={"figure": "Neighbours in the first shell"},
        ),
        penalty_figure=report(
            "results/{campaign}/consistency/penalties.png",
            caption="../workflow/report/penalties.rst",
            category="Transferability",
            labels={"figure": "Loss of transferability"},
        ),
        dynamics_figure=report(
            "results/{campaign}/consistency/dynamics.png",
            caption="../workflow/report/dynamics.rst",
            category="Dynamics",
            labels={"figure": "Dynamics"},
        ),
        state_figure=report(
            "results/{campaign}/consistency/equation_of_state.png",
            caption="../workflow/report/equation_of_state.rst",
            category="Thermodynamics",
            labels={"figure": "Equation of state"},
        ),
        baseline_figure=report(
            "results/{campaign}/consistency/baseline.png",
            caption="../workflow/report/baseline.rst",
            category="Simpler methods",
            labels={"figure": "The simpler method beside it"},
        ),
        pareto_figure=report(
            "results/{campaign}/consistency/pareto.png",
            caption="../workflow/report/pareto.rst",
            category="Thermodynamics",
            labels={"figure": "Structure against pressure and against dynamics"},
        ),
    log:
        "logs/{campaign}/consistency/states.log",
    benchmark:
        "benchmarks/{campaign}/consistency/states.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/consistency_states.py"
