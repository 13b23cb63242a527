"""What all states say together: penalties, equation of state, free energies, figures."""

from remcg import plots
from remcg.config import load
from remcg.consistency import baseline, figures, figures_tradeoff, pace, tradeoff
from remcg.consistency import campaign as together
from remcg.io import members, read_h5, read_json, write_json
from remcg.model import Model
from remcg.stage import stage
from remcg.streams import derived_seed
from remcg.validate import StateResult, write_state_table

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model, states = Model.read(snakemake.input.model), campaign.states
    inputs = snakemake.input.targets, snakemake.input.predictions
    targets, samples = ([read_h5(path) for path in paths] for paths in inputs)
    found = together.local_states(model, states, targets, samples)
    local, ensembles, attributes, references = found
    table = together.penalties(model, states, local, attributes)
    lost = together.penalty_numbers(table, local)
    validated = read_json(snakemake.input.numbers)
    guess = Model.read(snakemake.input.guess)
    guess_samples = members(snakemake.input.guess_samples, [s.id for s in campaign.training])
    simpler = together.baselines(
        model, guess, states, targets, [read_h5(path) for path in guess_samples], samples, validated
    )
    started = {name: {"boltzmann": item.numbers} for name, item in simpler.items()}
    thermal = together.equation_of_state(validated, attributes)
    shared = together.shared_mixture(states, ensembles, attributes)
    energies = together.free_energies(states, ensembles, attributes, shared)
    free = together.free_energy_numbers(energies)
    numbers = [
        {
            **read_json(path),
            **more,
            "penalty": lost[state.id],
            **started.get(state.id, {}),
            **free.get(state.id, {}),
        }
        for state, path, more in zip(states, snakemake.input.states, thermal)
    ]
    curves = [together.from_arrays(read_h5(path)[0]) for path in snakemake.input.curves]
    everything = together.merged(validated, numbers)
    write_json(snakemake.output.numbers, everything)
    write_state_table(snakemake.output.table, [StateResult(item, {}) for item in numbers])
    together.write_equation_of_state(snakemake.output.equation_of_state, everything)
    exact = together.reweighted_penalties(model, states, local, attributes, references, shared)
    together.write_penalty_table(snakemake.output.penalties, table, local, exact)
    together.write_free_energy_table(snakemake.output.free_energies, energies)
    both = list(zip(numbers, curves))
    shown = plots.some(both)
    figures.curve_figure(snakemake.output.factor_figure, shown, ["structure_factor"])
    figures.curve_figure(
        snakemake.output.neighbor_figure, shown, ["neighbor_angles", "coordination"]
    )
    figures.penalty_figure(snakemake.output.penalty_figure, table, numbers)
    figures.dynamics_figure(snakemake.output.dynamics_figure, both)
    figures.state_figure(snakemake.output.state_figure, everything)
    baseline.write_baseline_table(snakemake.output.baseline, validated, simpler)
    figures_tradeoff.baseline_figure(snakemake.output.baseline_figure, validated, simpler)
    front = tradeoff.trade_off(model, states, targets, samples)
    marked = together.marked_points(validated, simpler, snakemake.input.entropy)
    seed = derived_seed(campaign.seed, campaign.campaign, "pace")
    paces, where = pace.of_campaign(model, guess, states, samples, numbers, front, marked, seed)
    tradeoff.write_front_table(snakemake.output.pareto, front, marked, paces)
    figures_tradeoff.pareto_figure(snakemake.output.pareto_figure, front, marked, paces, where)
