"""The figure of ``remcg methods``: what each method costs, and how good its model is."""

import numpy as np

from remcg import plots
from remcg.statistics import block_mean
from remcg.units import KB
from remcg.validate import potential_curves

LABELS = {
    "rem": "relative entropy",
    "imc": "inverse Monte Carlo",
    "ibi": "iterative Boltzmann inv.",
    "force_matching": "force matching",
    "boltzmann": "Boltzmann inversion",
}
MARKERS = dict(zip(LABELS, "osD^v"))
COLORS = dict(zip(LABELS, plots.BLOCK_COLORS))
LINEAR = 0.02  # deviations of g(r) up to this are drawn to scale, larger ones logarithmically
SPREAD = 1.2  # K between points of one state


def methods_figure(path, outcomes, state):
    """RDF error against cost, U(r), g(r) and its deviation, pressure and density by method.

    Parameters
    ----------
    path : path
        PNG.
    outcomes : list of remcg.method_comparison.Outcome
    state : str
        Whose U(r) and g(r) are drawn.
    """
    at = [each.numbers["id"] for each in outcomes[0].states].index(state)
    pairs = sorted(outcomes[0].states[at].curves)
    with plots._figure(path, (10.6, 2.9 * (len(pairs) + 1) + 0.5)) as figure:
        axes = figure.subplots(len(pairs) + 1, 3, squeeze=False)
        _draw_cost(axes[0, 0], outcomes)
        _draw_pressures(axes[0, 1], outcomes)
        _draw_densities(axes[0, 2], outcomes)
        for row, name in zip(axes[1:], pairs):
            _draw_potentials(row[0], outcomes, at, name)
            _draw_rdfs(row[1], row[2], outcomes, at, name)
        _legend(figure, outcomes)


def _style(outcome, **more):
    method = outcome.method
    return {"color": COLORS[method], "marker": MARKERS[method], "ms": 4, "mfc": "white", **more}


def _draw_cost(axis, outcomes):
    """Of the sampled models: the first point is the guess, those of the last step are unseen."""
    noise = []
    for outcome in outcomes:
        cost = outcome.site_steps * np.arange(1, len(outcome.updates) + 1) / 1e6
        states = [update["states"].values() for update in outcome.updates]
        error = [np.sqrt(np.mean([s["rdf_rmse"] ** 2 for s in each])) for each in states]
        axis.plot(cost, error, **_style(outcome))
        noise += [s["rdf_noise"] for each in states for s in each if "rdf_noise" in s]
    if noise:
        axis.axhline(np.median(noise), color="0.6", lw=1.0, ls="--", zorder=0)
        axis.annotate(
            "noise", (1.0, np.median(noise)), xytext=(-2, 2), fontsize=7,
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", color="0.4",
        )  # fmt: skip
    axis.set(
        yscale="log", xlabel="CG site-steps (millions)", ylabel="rmse of g(r), training states"
    )


def _draw_pressures(axis, outcomes):
    for shift, outcome in zip(_shifts(outcomes), outcomes):
        T = [each.numbers["temperature_K"] + shift for each in outcome.states]
        value, error = np.transpose(outcome.virial) / 1000.0
        axis.errorbar(T, value, 2 * error, ls="", capsize=2, **_style(outcome))
    axis.set(xlabel="temperature (K)", ylabel="virial pressure of the pairs (kbar)")


def _draw_densities(axis, outcomes):
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    for shift, outcome in zip(_shifts(outcomes), outcomes):
        for each in outcome.states:
            density = each.numbers.get("density_kg_m3", {})
            if {"model", "reference"} <= density.keys():
                percent = 100.0 / density["reference"]
                deviation = (density["model"] - density["reference"]) * percent
                error = percent * np.hypot(density["model_se"], density["reference_se"])
                is_test = each.numbers["use"] == "test"
                style = _style(outcome, mfc="white" if is_test else COLORS[outcome.method])
                T = each.numbers["temperature_K"] + shift
                axis.errorbar(T, deviation, 2 * error, ls="", capsize=2, **style)
    if not axis.containers:
        plots._nothing(axis, "no state at constant pressure")
    axis.set(xlabel="temperature (K)", ylabel="density deviation (%), open: test")


def _shifts(outcomes):
    return SPREAD * (np.arange(len(outcomes)) - 0.5 * (len(outcomes) - 1))


def _draw_potentials(axis, outcomes, at, name):
    T = outcomes[0].states[at].numbers["temperature_K"]
    reached = []
    for outcome in outcomes:
        curve = potential_curves(outcome.model, [T])[name]
        energy = curve["U"][T][0]
        axis.plot(curve["r"], energy, color=COLORS[outcome.method], lw=1.2)
        reached.append(energy[energy < 2.0 * KB * T])
    low, high = min(map(np.min, reached)), max(map(np.max, reached))
    axis.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(xlabel="r (nm)", ylabel=f"U(r; {T:g} K), {name} (kJ/mol)")


def _draw_rdfs(left, right, outcomes, at, name):
    from matplotlib.ticker import NullLocator

    state = outcomes[0].states[at]
    for outcome in outcomes:
        pair = outcome.states[at].curves[name]
        (reference, _), (model, _) = block_mean(pair.reference), block_mean(pair.model)
        left.plot(pair.centers, model, color=COLORS[outcome.method], lw=1.2)
        right.plot(pair.centers, model - reference, color=COLORS[outcome.method], lw=1.2)
    left.plot(pair.centers, reference, color=plots.REFERENCE_COLOR, lw=3.2, alpha=0.3, zorder=0)
    noise = 2 * np.hypot(*(block_mean(side)[1] for side in (pair.reference, pair.model)))
    right.fill_between(pair.centers, -noise, noise, color="0.85", lw=0, zorder=0)
    onset = pair.edges[np.argmax(reference + model > 0)] - 0.02
    left.set(xlim=(onset, pair.edges[-1]), xlabel="r (nm)")
    left.set_ylabel(f"g(r), {name}, {state.numbers['id']}")
    right.set(xlim=(onset, pair.edges[-1]), xlabel="r (nm)", ylabel="g(r), model - reference")
    right.set_yscale("symlog", linthresh=LINEAR, linscale=2.0)
    ticks = [-1.0, -0.1, -LINEAR, 0.0, LINEAR, 0.1, 1.0]
    right.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    right.yaxis.set_minor_locator(NullLocator())


def _legend(figure, outcomes):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    style = {"color": plots.REFERENCE_COLOR, "lw": 3.2, "alpha": 0.3}
    handles = [Line2D([], [], label=LABELS[each.method], **_style(each)) for each in outcomes]
    handles.append(Line2D([], [], label="reference", **style))
    handles.append(Patch(color="0.85", label="±2 SE"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
