rule model:
    input:
        model=last_model,
        plans=all_plans,
        records=all_records,
        samples=last_samples,
        targets=expand(f"{TARGETS}/{{state}}.h5", state=TRAINING),
    output:
        model="results/{campaign}/model/model.json",
        entropy="results/{campaign}/model/relative_entropy.tsv",
        noise="results/{campaign}/model/noise.tsv",
        spectrum="results/{campaign}/model/spectrum.tsv",
        directions="results/{campaign}/model/directions.tsv",
        unsampled="results/{campaign}/model/unsampled.tsv",
        bands="results/{campaign}/model/bands.tsv",
        entropy_figure=report(
            "results/{campaign}/model/relative_entropy.png",
            caption="../workflow/report/relative_entropy.rst",
            category="Learning",
            labels={"figure": "Relative entropy"},
        ),
        noise_figure=report(
            "results/{campaign}/model/noise.png",
            caption="../workflow/report/noise.rst",
            category="Learning",
            labels={"figure": "Noise"},
        ),
        spectrum_figure=report(
            "results/{campaign}/model/spectrum.png",
            caption="../workflow/report/spectrum.rst",
            category="Learning",
            labels={"figure": "Stiff and sloppy directions"},
        ),
        directions_figure=report(
            "results/{campaign}/model/directions.png",
            caption="../workflow/report/directions.rst",
            category="Learning",
            labels={"figure": "Directions as potentials"},
        ),
        bands_figure=report(
            "results/{campaign}/model/bands.png",
            caption="../workflow/report/bands.rst",
            category="Model",
            labels={"figure": "Potentials and their errors"},
        ),
    log:
        "logs/{campaign}/model/model.log",
    benchmark:
        "benchmarks/{campaign}/model/model.tsv"
    conda:
        "../envs/remcg.yaml"
    script:
        "../scripts/model.py"
