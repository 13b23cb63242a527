"""Predictions against references, as tables and figures."""

from remcg import plots, validate
from remcg.config import load
from remcg.io import read_json
from remcg.model import Model
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    results = [
        validate.read_state(state.id, state.use, target, prediction, model)
        for state, target, prediction in zip(
            campaign.states, snakemake.input.targets, snakemake.input.predictions
        )
    ]
    curves = validate.potential_curves(model, sorted({s.temperature for s in campaign.states}))
    validate.write_numbers(snakemake.output.numbers, results)
    validate.write_state_table(snakemake.output.states, results)
    validate.write_potential_table(snakemake.output.potentials, curves)
    for path, result in zip(snakemake.output.rdfs, results):
        validate.write_rdf_table(path, result.curves)
    for path in snakemake.output.all_rdfs:
        validate.write_rdf_tables(path, results)
    for path in snakemake.output.all_bonded:
        validate.write_bonded_tables(path, results)
    if campaign.bonded_terms:
        bonded = validate.bonded_curves(model, sorted({s.temperature for s in campaign.states}))
        for path, result in zip(snakemake.output.bonded, results):
            validate.write_bonded_table(path, result.distributions)
        validate.write_bonded_potential_table(snakemake.output.bonded_potentials[0], bonded)
        plots.distribution_figure(snakemake.output.distribution_figure[0], plots.some(results))
        plots.potential_figure(
            snakemake.output.bonded_potential_figure[0],
            bonded,
            model.reference_temperature,
            tested=[s.temperature for s in campaign.test],
        )
    plots.rdf_figure(snakemake.output.rdf_figure, plots.some(results))
    plots.potential_figure(
        snakemake.output.potential_figure,
        curves,
        model.reference_temperature,
        tested=[s.temperature for s in campaign.test],
    )
    plots.density_figure(snakemake.output.density_figure, [r.numbers for r in results])
    plans = [read_json(path) for path in snakemake.input.plans]
    validate.write_convergence_table(snakemake.output.convergence, plans)
    plots.convergence_figure(snakemake.output.convergence_figure, plans)
