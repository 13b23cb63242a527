"""Figures of the starting guess beside the model, and of structure against pressure."""

import numpy as np

from remcg.consistency.baseline import model_deviation
from remcg.plots import (
    BLOCK_COLORS,
    REFERENCE_COLOR,
    _figure,
    _nothing,
    empty_figure,
    shortened,
    some,
)
from remcg.statistics import block_mean

GUESS, MODEL = BLOCK_COLORS[1], BLOCK_COLORS[0]
SHIFT = 0.8  # K between points of one state


def baseline_figure(path, states, found):
    """Deviations of g(r), of pressures and densities: Boltzmann inversion and final model.

    Parameters
    ----------
    path : path
    states : list of dict
        As in ``validate/states.json``.
    found : dict
        Name of a training state to its :class:`remcg.consistency.baseline.Baseline`.
    """
    states = [state for state in states if state["id"] in found]
    if not states:
        empty_figure(path, "The Boltzmann inversion is the model itself.")
        return
    name, shown = _worst_pair(found), some(states)
    n = len(shown)
    has_pressure = any("target" in state["pressure_bar"] for state in states)
    with _figure(path, (max(2.6 * n, 8.0) + 0.6, 6.2)) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=[1.0, 1.0])
        axes = above.subplots(2, n, squeeze=False, sharex=True, sharey="row", height_ratios=[3, 2])
        for k, state in enumerate(shown):
            _draw_pair(axes[:, k], state, found[state["id"]], name)
        axes[0, 0].set_ylabel(f"g(r), {name}")
        axes[1, 0].set_ylabel("difference")
        panels = below.subplots(1, 3 if has_pressure else 1, squeeze=False)[0]
        _draw_errors(panels[0], states, found)
        if has_pressure:
            _draw_pressures(panels[1], states, found)
            _draw_densities(panels[2], states, found)
        for axis in panels:
            axis.set_xlabel("temperature (K)")
        _legend(figure)


def _worst_pair(found):
    rows = [item.numbers["rdf"] for item in found.values()]
    names = {name for row in rows for name in row}
    return max(sorted(names), key=lambda x: max(r[x]["rmse"] for r in rows if x in r), default="")


def _draw_pair(axes, state, item, name):
    top, bottom = axes
    top.set_title(shortened(state["id"]), loc="left")
    bottom.set_xlabel("r (nm)")
    if name not in item.guess:
        return
    reference, reference_se = block_mean(item.model[name].reference)
    x = item.model[name].centers
    top.plot(x, reference, color=REFERENCE_COLOR, lw=3.0, alpha=0.3)
    for pair, color in ((item.guess[name], GUESS), (item.model[name], MODEL)):
        value, error = block_mean(pair.model)
        top.plot(x, value, color=color, lw=1.2)
        bottom.plot(x, value - reference, color=color, lw=1.2)
        whole = 2.0 * np.hypot(error, reference_se)
        low, high = value - reference - whole, value - reference + whole
        bottom.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
    bottom.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    known = np.flatnonzero(reference > 0.01)
    if len(known):
        top.set_xlim(max(x[known[0]] - 0.08, 0.0), x[-1])


def _draw_errors(axis, states, found):
    for state in states:
        T = state["temperature_K"]
        for name, entry in found[state["id"]].numbers["rdf"].items():
            final = state.get("rdf", {}).get(name)
            _point(axis, T - SHIFT, entry["rmse"], entry["rmse_se"], GUESS, "v")
            if final:
                _point(axis, T + SHIFT, final["rmse"], final["rmse_se"], MODEL, "o")
                axis.plot(T + SHIFT, final["noise_floor_rmse"], marker="_", ms=14, mew=2,
                          color="0.55")  # fmt: skip
    axis.set(yscale="log", ylabel="rmse of g(r); bars: noise floor")


def _draw_pressures(axis, states, found):
    for state in (state for state in states if "target" in state["pressure_bar"]):
        own, T = found[state["id"]].numbers, state["temperature_K"]
        target = state["pressure_bar"]["target"]
        pairs = own["pair_pressure_bar"]
        for side, shift, color, marker in (
            ("guess", -SHIFT, GUESS, "v"), ("model", SHIFT, MODEL, "o"),
        ):  # fmt: skip
            value, error = 1e-3 * (pairs[side] - target), 1e-3 * pairs[f"{side}_se"]
            _point(axis, T + shift, value, error, color, marker, fill="white")
        for entry, shift, color, marker in (
            (own["pressure_bar"], -SHIFT, GUESS, "v"),
            (state["pressure_bar"], SHIFT, MODEL, "o"),
        ):
            value, error = 1e-3 * (entry["model"] - target), 1e-3 * entry["model_se"]
            _point(axis, T + shift, value, error, color, marker)
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(ylabel="pressure − set pressure (kbar)")
    axis.set_title("open: without the volume term", loc="left")


def _draw_densities(axis, states, found):
    shown = False
    for state in states:
        T = state["temperature_K"]
        entry = found[state["id"]].numbers.get("density_deviation")
        if entry:
            _point(axis, T - SHIFT, 100 * entry["value"], 100 * entry["se"], GUESS, "v")
        final = model_deviation(state)
        if final:
            _point(axis, T + SHIFT, *final, MODEL, "o")
        shown = shown or bool(entry or final)
    if not shown:
        _nothing(axis, "no state at constant pressure")
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(ylabel="density deviation (%)")


def _point(axis, x, y, error, color, marker, fill=None):
    axis.errorbar(x, y, 2 * error, marker=marker, ms=5, color=color, mfc=fill or color, capsize=2)


def _legend(figure):
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=REFERENCE_COLOR, lw=3.0, alpha=0.3, label="reference"),
        Line2D([], [], color=GUESS, marker="v", label="Boltzmann inversion"),
        Line2D([], [], color=MODEL, marker="o", label="final model (bars, bands: 2 SE)"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)


def pareto_figure(path, front, marked, paces=(), where=""):
    """Structural loss against the deviation of the pressure and against diffusion, over weights.

    Parameters
    ----------
    path : path
    front : remcg.consistency.tradeoff.Front or None
    marked : dict
        From :func:`remcg.consistency.tradeoff.points`.
    paces : list of remcg.consistency.pace.Pace
    where : str
        State of ``paces``.
    """
    if front is None:
        empty_figure(
            path,
            "No training state has a pressure to weigh structure against, or the model is not at a"
            " minimum around which it could be weighed.",
        )
        return
    with _figure(path, (9.6 if paces else 6.4, 4.6)) as figure:
        axes = figure.subplots(1, 2, sharey=True) if paces else [figure.subplots()]
        _draw_front(axes[0], front, marked)
        losses = [*front.loss[front.kept], *(row[2] for row in marked.values()), 1e-4]
        axes[0].set_yscale("symlog", linthresh=1e-4, linscale=0.5)
        axes[0].set_ylim(-5e-5, 3.0 * max(losses))
        axes[0].set_ylabel("structural loss (nats per molecule)")
        if paces:
            _draw_paces(axes[1], paces, where)
        for axis in axes:
            axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
        figure.legend(loc="outside upper center", ncols=3 if paces else 2)


def _draw_front(axis, front, marked):
    shown = front.kept
    x, y = np.maximum(front.pressure[shown], 1.0), front.loss[shown]
    axis.fill_between(x, y - 2 * front.loss_se[shown], y + 2 * front.loss_se[shown],
                      color=MODEL, alpha=0.25, lw=0)  # fmt: skip
    near = front.is_local[shown]
    axis.plot(x, y, color=MODEL, ls="--", lw=1.0)
    axis.plot(x[near], y[near], color=MODEL, marker=".", label="without a volume term")
    start = np.argmin(front.weights)
    axis.plot(max(front.pressure[start], 1.0), 0.0, marker="o", ms=9, mfc="white", mew=1.6,
              color=MODEL, ls="", label="chosen model, its site terms alone")  # fmt: skip
    for (name, row), marker, color in zip(
        marked.items(), ("*", "v"), (BLOCK_COLORS[2], GUESS), strict=False
    ):
        axis.errorbar(max(row[0], 1.0), row[2], 2 * row[3], marker=marker, ls="", capsize=2,
                      ms=13 if marker == "*" else 7, color=color, label=name)  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlabel("rms deviation of the pressure over training states (bar)")


def _draw_paces(axis, paces, where):
    """Models of the front, the guess and the model with friction, by what they diffuse."""
    styles = {
        "front": {"color": MODEL, "marker": "."},
        "Boltzmann inversion": {"color": GUESS, "marker": "v", "ms": 7},
        "chosen model with friction": {
            "color": BLOCK_COLORS[3], "marker": "D", "ms": 7, "label": "chosen model with friction",
        },
    }  # fmt: skip
    front = [p for p in paces if p.name == "front"]
    axis.plot([p.ratio for p in front], [p.loss for p in front], color=MODEL, lw=1.0)
    axis.plot(front[0].ratio, 0.0, marker="o", ms=9, mfc="white", mew=1.6, color=MODEL, ls="")
    for p in paces:
        axis.errorbar(p.ratio, p.loss, 2 * p.loss_se, 2 * p.ratio_se, ls="", capsize=2,
                      **styles[p.name])  # fmt: skip
    axis.axvline(1.0, color="0.4", ls="--", lw=1.0, zorder=0)
    axis.text(1.0, 0.98, "reference ", transform=axis.get_xaxis_transform(), ha="right", va="top",
              rotation=90, fontsize=7, color="0.4")  # fmt: skip
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.0), max(high, 1.3))
    axis.set_xlabel(f"D model / D reference, {where}")
