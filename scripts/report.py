"""Summary, checks, provenance and front page of the campaign."""

import os
from pathlib import Path

import remcg
from remcg import report, viewer
from remcg.config import load
from remcg.io import read_json, write_json
from remcg.model import Model
from remcg.provenance import provenance
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    started = os.environ.get("REMCG_RUN_STARTED")
    wall_s, orchestration = report.timing(
        Path("benchmarks", campaign.campaign),
        Path("logs", campaign.campaign),
        float(started) if started else None,
        int(os.environ.get("REMCG_RUN_CORES", 1)),
    )
    sampling = campaign.sample
    summary = report.summary(
        campaign.campaign,
        remcg.__version__,
        campaign.seed,
        report.rem_summary(
            [read_json(path) for path in snakemake.input.plans],
            model.n_params,
            sampling.replicas * sampling.steps,
            sampling.replicas * sampling.equilibration,
        ),
        read_json(snakemake.input.numbers),
        report.read_backmap(snakemake.input.backmapped, snakemake.input.mapped),
        wall_s,
        orchestration,
    )
    write_json(snakemake.output.summary, summary)
    checks = report.checks(summary, campaign.validate.limits)
    report.write_verdict(snakemake.output.verdict, checks)
    captions = Path(__file__).parents[1] / "workflow" / "report"
    report.write_front_page(
        snakemake.output.page,
        summary,
        model,
        campaign.validate.limits,
        report.with_captions(
            [*snakemake.input.figures, *snakemake.input.backmap_figures], captions
        ),
        [snakemake.input.model, snakemake.input.lammps, snakemake.input.openmm],
        viewer.read(snakemake.input.shown, campaign),
    )
    results = Path(snakemake.output.summary).parent
    config_file = snakemake.config["config_file"]
    write_json(snakemake.output.provenance, provenance(campaign, results, wall_s, config_file))
