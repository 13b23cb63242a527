"""Figures of a campaign: data in, one PNG out."""

from contextlib import contextmanager

import numpy as np

from remcg.io import replacing
from remcg.model import ORDER_LETTERS
from remcg.page import REASON
from remcg.statistics import block_mean, mean_and_error
from remcg.units import KB
from remcg.validate import sampled_iterations

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.labelpad": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
BLOCK_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito
REFERENCE_COLOR = "0.15"
TRACE, MARGIN, HEADROOM = 2e-3, 0.08, 1.4  # of distributions
MAX_COLUMNS = 5
X_LABEL = {
    "pair": "r (nm)",
    "bond": "r (nm)",
    "angle": "angle (rad)",
    "dihedral": "dihedral (rad)",
    "rg": "radius of gyration (nm)",
    "end": "end-to-end distance (nm)",
}
SYMBOL = {"angle": "θ", "dihedral": "φ"}  # of a coordinate, else r
SHOWN_KT = {
    "pair": 2.0
}  # height above the minimum up to which a potential is shown; else BONDED_KT
BONDED_KT = 8.0
RADIANS = ("angle", "dihedral")
MOST_PANELS = 40  # states with a panel of their own
LONGEST = 20  # letters of a name over a panel
LEGEND_INCHES = 1.75  # of an entry of a legend


def some(states, most=MOST_PANELS):
    """The states that get a panel each: all of a few, of many those spread evenly over them."""
    step = max(-(-len(states) // most), 1)
    return states[::step]


def shortened(name, most=LONGEST):
    """A name with its middle left out where it is longer than ``most`` letters."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def legend_above(figure, handles):
    """A legend over all panels, in as many columns as have room."""
    n_columns = min(len(handles), max(int(figure.get_figwidth() / LEGEND_INCHES), 1))
    figure.legend(handles=handles, loc="outside upper center", ncols=n_columns)


def state_title(axis, numbers):
    """Name and use of a state over its panel."""
    axis.set_title(f"{shortened(numbers['id'])}, {numbers['use']}", loc="left")


def plain_decades(axis):
    """Numbers as they are, 2, 5 and 10, along a logarithmic axis of few decades."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    low, high = axis.get_view_interval()
    if 0.0 < low < high < 300.0 * low:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter(StrMethodFormatter("{x:g}"))


def rdf_figure(path, results):
    """RDFs of reference and model at all states, with the difference below each.

    Parameters
    ----------
    path : path
    results : list of StateResult
    """
    pairs = sorted({name for result in results for name in result.curves})
    n_columns = min(len(results), MAX_COLUMNS)
    n_groups = len(pairs) * -(-len(results) // n_columns)
    colors = temperature_colors([result.numbers["temperature_K"] for result in results])
    with _figure(path, (2.15 * n_columns + 1.0, 3.1 * n_groups + 0.35)) as figure:
        axes = _paired_axes(figure, n_groups, n_columns)
        for p, name in enumerate(pairs):
            shown = axes[p * n_groups // len(pairs) : (p + 1) * n_groups // len(pairs)]
            cells = [cell for group in shown for cell in group]
            _share_limits(cells)
            for (top, bottom), result in zip(cells, results):
                _draw_rdf(top, bottom, result, name, colors[result.numbers["temperature_K"]])
            cells[0][0].set_xlim(max(0.0, _onset(results, name) - 0.05))
            highest = _highest([r.curves[name] for r in results if name in r.curves])
            cells[0][0].set_ylim(-0.05 * highest, 1.25 * highest)  # whatever the bands
            for top, bottom in cells[len(results) :]:
                top.remove(), bottom.remove()
            for group in shown:
                _label_rdf_row(group, name)
        legend_above(figure, side_handles(colors, with_difference=True))


def potential_figure(path, curves, reference_temperature, tested=()):
    """A(r), B(r) (and C(r)) and U(r; T) of every curve, with bands of two standard errors.

    Parameters
    ----------
    path : path
    curves : dict
        From :func:`remcg.validate.potential_curves` or :func:`remcg.validate.bonded_curves`.
    reference_temperature : float
        T0, K.
    tested : collection of float
        Temperatures drawn dashed: the model was not trained there.
    """
    n_panels = max(len(_letters(curve)) for curve in curves.values()) + 1
    with _figure(path, (3.1 * n_panels + 1.2, 2.9 * len(curves) + 0.2)) as figure:
        axes = figure.subplots(len(curves), n_panels, squeeze=False)
        for row, (name, curve) in zip(axes, curves.items()):
            for axis, letter, color in zip(row, _letters(curve), BLOCK_COLORS):
                _band(axis, _abscissa(curve), *curve[letter], color=color)
                _finish_potential(axis, curve, [curve[letter]], _order_label(letter, curve))
            for axis in row[len(_letters(curve)) : -1]:
                axis.remove()
            _draw_temperatures(row[-1], curve, tested)
            row[0].set_title(f"{name}, $T_0$ = {reference_temperature:.0f} K", loc="left")


def distribution_figure(path, results):
    """Bonded distributions and shapes of molecules: one row each, one column per state.

    Parameters
    ----------
    path : path
    results : list of StateResult
        With ``distributions``; states without any are left out.
    """
    results = [result for result in results if result.distributions]
    keys = list(dict.fromkeys(key for result in results for key in result.distributions))
    n_columns = min(len(results), MAX_COLUMNS)
    n_lines = -(-len(results) // n_columns)  # of each key
    colors = temperature_colors([result.numbers["temperature_K"] for result in results])
    with _figure(path, (2.15 * n_columns + 1.0, 2.1 * n_lines * len(keys) + 0.35)) as figure:
        axes = figure.subplots(n_lines * len(keys), n_columns, squeeze=False)
        for k, key in enumerate(keys):
            cells = axes[k * n_lines : (k + 1) * n_lines].ravel()
            shown = [(a, r) for a, r in zip(cells, results) if key in r.distributions]
            for axis, result in shown:
                color = colors[result.numbers["temperature_K"]]
                _draw_distribution(axis, result, result.distributions[key], color)
                axis.sharex(shown[0][0]), axis.sharey(shown[0][0])
            items = [r.distributions[key] for _, r in shown]
            shown[0][0].set(xlim=_sampled_range(items), ylim=(0.0, HEADROOM * _highest(items)))
            for axis in cells:
                axis.tick_params(labelleft=axis.get_subplotspec().is_first_col())
            for axis in set(cells) - {axis for axis, _ in shown}:
                axis.remove()
            kind, name = key.split(" ", 1)
            shown[0][0].set_ylabel(f"{name}\np (1/{'rad' if kind in RADIANS else 'nm'})")
        legend_above(figure, side_handles(colors))


def density_figure(path, numbers):
    """Density, its deviation, compressibility and pressure against temperature.

    Parameters
    ----------
    path : path
    numbers : list of dict
        The states as in ``summary.json``.
    """
    states = sorted(numbers, key=lambda state: state["temperature_K"])
    if not any("density_kg_m3" in state for state in states):
        _fixed_volume_figure(path, states)
        return
    with _figure(path, (10.2, 3.6)) as figure:
        grid = figure.add_gridspec(2, 3, height_ratios=[2.2, 1])
        top = figure.add_subplot(grid[0, 0])
        bottom = figure.add_subplot(grid[1, 0], sharex=top)
        top.tick_params(labelbottom=False)
        _draw_both(top, states, "density_kg_m3", 1.0)
        top.set_ylabel("density (kg/m³)")
        _draw_deviation(bottom, states)
        middle, right = (figure.add_subplot(grid[:, i]) for i in (1, 2))
        _draw_both(middle, states, "compressibility_1_bar", 1e5)
        middle.set_ylabel("compressibility (10⁻⁵ bar⁻¹)")
        _draw_pressure(right, states)
        for axis in (bottom, middle, right):
            axis.set_xlabel("temperature (K)")
        _density_legend(figure)


def _fixed_volume_figure(path, states):
    """Densities do not change: of what :func:`density_figure` shows the pressure is left."""
    with _figure(path, (4.6, 3.6)) as figure:
        axis = figure.subplots()
        _draw_pressure(axis, states)
        axis.set_xlabel("temperature (K)")
        _density_legend(figure)


def convergence_figure(path, updates):
    """Course of the optimisation: noise test, step, volumes and RDF errors per iteration.

    Parameters
    ----------
    path : path
    updates : list of dict
        The ``update.json`` of each iteration; what is missing there is not drawn.
    """
    iterations, updates = sampled_iterations(updates)
    panels = [_draw_chi2, _draw_kl, _draw_volume, _draw_rdf_error]
    with _figure(path, (10.2, 5.2)) as figure:
        for axis, draw in zip(figure.subplots(2, 2, sharex=True).flat, panels):
            draw(axis, iterations, updates)
            _shade_phases(axis, iterations, updates)
            axis.xaxis.get_major_locator().set_params(integer=True)
            _label_bottom(axis, "iteration")


def temperature_colors(temperatures):
    """Colours by temperature, dark is cold: dict; distinguishable with any colour vision."""
    from matplotlib import colormaps

    unique = sorted(set(temperatures))
    places = np.linspace(0.0, 0.82, len(unique)) if len(unique) > 1 else [0.3]
    return {T: colormaps["plasma"](place) for T, place in zip(unique, places)}


@contextmanager
def _figure(path, size, about=None):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=size)
        try:
            yield figure
            with replacing(path) as temporary:
                figure.savefig(
                    temporary, format="png", metadata={"Software": None, **(about or {})}
                )
        finally:
            plt.close(figure)


def _paired_axes(figure, n_groups, n_columns):
    """Per group a list of (main, residual) axes."""
    grid = figure.add_gridspec(2 * n_groups, n_columns, height_ratios=[3, 1.2] * n_groups)
    axes = []
    for group in range(n_groups):
        cells = []
        for column in range(n_columns):
            top = figure.add_subplot(grid[2 * group, column])
            bottom = figure.add_subplot(grid[2 * group + 1, column], sharex=top)
            top.tick_params(labelbottom=False)
            cells.append((top, bottom))
        axes.append(cells)
    return axes


def _share_limits(cells):
    for top, bottom in cells[1:]:
        top.sharex(cells[0][0]), top.sharey(cells[0][0]), bottom.sharey(cells[0][1])


def _onset(results, name):
    """Smallest r (nm) at which any state has pairs."""
    pairs = [result.curves[name] for result in results if name in result.curves]
    some = sum(pair.reference.sum(axis=0) + pair.model.sum(axis=0) for pair in pairs) > 0
    return pairs[0].edges[np.argmax(some)]


def _draw_rdf(top, bottom, result, name, color):
    numbers, pair = result.numbers, result.curves[name]
    reference, reference_se = block_mean(pair.reference)
    model, model_se = block_mean(pair.model)
    top.plot(pair.centers, reference, color=REFERENCE_COLOR, lw=2.6, alpha=0.35)
    whole = 2 * np.hypot(model_se, pair.parameter_se)
    top.fill_between(pair.centers, model - whole, model + whole, color=color, alpha=0.3)
    top.plot(pair.centers, model, color=color, lw=1.2)
    noise = 2 * np.hypot(reference_se, model_se)
    bottom.fill_between(pair.centers, -noise, noise, color="0.85", lw=0)
    bottom.plot(pair.centers, model - reference, color=color, lw=1.0)
    state_title(top, numbers)
    if name in numbers["rdf"]:
        label = f"rmse {numbers['rdf'][name]['rmse']:.4f}\nmax {numbers['rdf'][name]['max']:.3f}"
        top.text(0.97, 0.96, label, transform=top.transAxes, ha="right", va="top", fontsize=8)


def _sampled_range(items):
    """Where distributions are more than a trace of their maximum, and a margin."""
    ends = []
    for item in items:
        density = block_mean(item.reference)[0]
        ends.append(item.centers[np.flatnonzero(density > TRACE * density.max())[[0, -1]]])
    first, last = np.min(ends), np.max(ends)
    margin = MARGIN * (last - first)
    return first - margin, last + margin


def _highest(items):
    """Largest mean of either side, of distributions or RDFs."""
    sides = [side.mean(axis=0) for item in items for side in (item.reference, item.model)]
    return max(side.max() for side in sides)


def _draw_distribution(axis, result, item, color):
    reference, _ = block_mean(item.reference)
    model, model_se = mean_and_error(item.model)
    axis.plot(item.centers, reference, color=REFERENCE_COLOR, lw=2.6, alpha=0.35)
    axis.fill_between(
        item.centers, model - 2 * model_se, model + 2 * model_se, color=color, alpha=0.3
    )
    axis.plot(item.centers, model, color=color, lw=1.2)
    axis.set(xlabel=X_LABEL[item.kind])
    axis.yaxis.get_major_locator().set_params(nbins=4)
    state_title(axis, result.numbers)
    entry = _distribution_numbers(result.numbers, item)
    if entry:
        floor = 1e3 * entry["noise_floor_js_bits"]
        label = f"JS {1e3 * entry['js_bits']:.2f}\nfloor {floor:.2f} mbit"
        axis.text(0.97, 0.96, label, transform=axis.transAxes, ha="right", va="top", fontsize=7)


def _distribution_numbers(numbers, item):
    if item.is_shape:
        return numbers.get("chains", {}).get(item.name, {}).get(f"{item.kind}_nm")
    return numbers.get("bonded", {}).get(item.name)


def side_handles(colors, with_difference=False):
    """Entries of a legend: reference, model and, if drawn, the band of their difference."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=REFERENCE_COLOR, lw=2.6, alpha=0.35, label="reference"),
        Line2D([], [], color=list(colors.values())[len(colors) // 2], label="model (band: 2 SE)"),
    ]
    if with_difference:
        handles.append(Patch(color="0.85", label="±2 SE of the difference"))
    return handles


def _label_rdf_row(group, name):
    group[0][0].set_ylabel(f"g(r), {name}")
    group[0][1].set_ylabel("difference")
    for i, (top, bottom) in enumerate(group):
        bottom.set_xlabel("r (nm)")
        for axis in (top, bottom):
            axis.tick_params(labelleft=i == 0)


def _letters(curve):
    return [letter for letter in ORDER_LETTERS if letter in curve]


def _order_label(letter, curve):
    return f"{letter}({_symbol(curve)}) (kJ/mol)"


def _symbol(curve):
    return SYMBOL.get(curve.get("kind"), "r")


def _band(axis, r, value, error, **style):
    axis.plot(r, value, **style)
    if error is not None:
        axis.fill_between(r, value - 2 * error, value + 2 * error, color=style["color"], alpha=0.25)


def _draw_temperatures(axis, curve, tested):
    colors = temperature_colors(curve["U"])
    for T, (value, error) in sorted(curve["U"].items()):
        style = {"color": colors[T], "ls": "--" if T in tested else "-"}
        _band(axis, _abscissa(curve), value, error, label=f"{T:g} K", **style)
    label = f"U({_symbol(curve)}; T) (kJ/mol)"
    _finish_potential(axis, curve, curve["U"].values(), label)
    _legend(axis, "dashed: test" if tested else None)


def _finish_potential(axis, curve, estimates, label):
    """Limits that show what the temperatures reach: the wall is cut at SHOWN_KT."""
    energies = [value for value, _ in curve["U"].values()]
    kind = curve.get("kind", "pair")
    reached = np.min(energies, axis=0) < SHOWN_KT.get(kind, BONDED_KT) * KB * max(curve["U"])
    bands = [(value, 0.0 if error is None else 2.0 * error) for value, error in estimates]
    low = min((value - half)[reached].min() for value, half in bands)
    high = max((value + half)[reached].max() for value, half in bands)
    margin = 0.08 * max(high - low, 1e-3)
    axis.set_ylim(low - margin, high + margin)
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(xlabel=X_LABEL[kind], ylabel=label)


def _abscissa(curve):
    return curve["r"] if "r" in curve else curve["x"]


def _draw_both(axis, states, key, scale):
    shown = [state for state in states if key in state]
    if not shown:
        _nothing(axis, "no state at constant pressure")
    for state in shown:
        entry, T = state[key], state["temperature_K"]
        if "reference" in entry:
            _point(axis, T - 0.6, entry["reference"] * scale, entry["reference_se"] * scale)
        error = np.hypot(entry["model_se"], entry.get("parameter_se", 0.0))
        _point(axis, T + 0.6, entry["model"] * scale, error * scale, state["use"])


def _draw_deviation(axis, states):
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    for state in (state for state in states if "density_kg_m3" in state):
        entry = state["density_kg_m3"]
        percent = 100.0 / entry["reference"]
        error = np.hypot(entry["reference_se"], entry["model_se"])
        deviation = (entry["model"] - entry["reference"]) * percent
        _point(axis, state["temperature_K"], deviation, error * percent, state["use"])
    axis.set_ylabel("deviation (%)")


def _draw_pressure(axis, states):
    for state in states:
        entry, T = state["pressure_bar"], state["temperature_K"]
        if "target" in entry:
            axis.plot(
                T, entry["target"], marker="_", ms=14, mew=2, color=REFERENCE_COLOR, alpha=0.5
            )
        _point(axis, T, entry["model"], entry["model_se"], state["use"])
    axis.set_ylabel("pressure (bar)")


def _point(axis, x, y, error, use=None):
    """A reference point without ``use``; a model point, filled if the state was trained."""
    color = {None: REFERENCE_COLOR, "train": BLOCK_COLORS[0], "test": BLOCK_COLORS[1]}[use]
    fill = color if use == "train" else "white"
    marker = {None: "s", "train": "o", "test": "D"}[use]
    axis.errorbar(x, y, 2 * error, marker=marker, ms=5, color=color, mfc=fill, capsize=2, lw=1.1)


def _density_legend(figure):
    from matplotlib.lines import Line2D

    style = {"ls": "", "ms": 5}
    blue, orange = BLOCK_COLORS[:2]
    handles = [
        Line2D([], [], marker="s", color=REFERENCE_COLOR, mfc="white", label="reference", **style),
        Line2D([], [], marker="o", color=blue, label="model, trained state", **style),
        Line2D([], [], marker="D", color=orange, mfc="white", label="model, test state", **style),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)


def _draw_chi2(axis, iterations, updates):
    blocks = list(dict.fromkeys(name for update in updates for name in update.get("blocks", {})))
    rows = [{"chi2_per_dof": update.get("chi2_per_dof")} for update in updates]
    _series(axis, iterations, rows, "chi2_per_dof", "black", "all", marker="o")
    for name, color in zip(blocks, BLOCK_COLORS * len(blocks)):
        rows = [update.get("blocks", {}).get(name, {}) for update in updates]
        _series(axis, iterations, rows, "chi2_per_dof", color, name, marker=".")
    _series(axis, iterations, updates, "threshold", "0.5", "threshold", ls="--")
    _log_scale(axis)
    axis.set_ylabel("gradient: χ² per dof")
    _legend(axis)


def _draw_kl(axis, iterations, updates):
    _series(axis, iterations, updates, "predicted_kl", "black", None, marker="o")
    _log_scale(axis)
    axis.set_ylabel("KL of the step (nats)")


def _draw_volume(axis, iterations, updates):
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    names = _state_names(updates)
    for name, color in zip(names, temperature_colors(range(len(names))).values()):
        found = [
            (iteration, state)
            for iteration, update in zip(iterations, updates)
            if {"volume", "volume_reference"} <= (state := _state(update, name)).keys()
            and _phase(update) != "NVT"
        ]
        x = [iteration for iteration, _ in found]
        y = [100 * (state["volume"] / state["volume_reference"] - 1) for _, state in found]
        error = [200 * state.get("volume_se", 0) / state["volume_reference"] for _, state in found]
        if found:
            axis.errorbar(x, y, error, marker="o", ms=4, color=color, capsize=2, label=name)
    if not axis.containers:
        _nothing(axis, "no iteration at constant pressure")
    axis.set_ylabel("volume deviation (%)")
    _legend(axis)


def _draw_rdf_error(axis, iterations, updates):
    names = _state_names(updates)
    for name, color in zip(names, temperature_colors(range(len(names))).values()):
        rows = [_state(update, name) for update in updates]
        _series(axis, iterations, rows, "rdf_rmse", color, name, marker="o", ms=4)
    if not axis.lines:
        _nothing(axis, "no RDF errors recorded")
    _log_scale(axis)
    axis.set_ylabel("rmse of g(r)")
    _legend(axis)


def _state_names(updates):
    return list(dict.fromkeys(name for update in updates for name in update.get("states", {})))


def _state(update, name):
    return update.get("states", {}).get(name, {})


def _series(axis, x, rows, key, color, label, **style):
    found = [(at, row[key]) for at, row in zip(x, rows) if row.get(key) is not None]
    if found:
        axis.plot(*zip(*found), color=color, label=label, **style)


def _log_scale(axis):
    if any((np.asarray(line.get_ydata()) > 0).any() for line in axis.lines):
        axis.set_yscale("log")


def _legend(axis, title=None):
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title)


def _phase(update):
    """Ensemble of the samples that an update looked at; its own ``phase`` is of the next ones."""
    return update.get("sampled", update).get("phase")


def _shade_phases(axis, iterations, updates):
    nvt = [i for i, update in zip(iterations, updates) if _phase(update) == "NVT"]
    for iteration in nvt:
        axis.axvspan(iteration - 0.5, iteration + 0.5, color="0.95", lw=0, zorder=0)
    if nvt:
        place = axis.get_xaxis_transform()
        axis.text(nvt[0] - 0.45, 1.01, "constant volume", transform=place, fontsize=7, color="0.4")


def _label_bottom(axis, label):
    if axis.get_subplotspec().is_last_row():
        axis.set_xlabel(label)


def empty_figure(path, reason):
    """One line in place of a figure: why there is nothing to draw.

    The line is also the ``REASON`` of the picture's metadata, so that pages show it as a text.

    Parameters
    ----------
    path : path
    reason : str
        A sentence.
    """
    with _figure(path, (9.0, 0.5), {REASON: reason}) as figure:
        figure.text(0.01, 0.5, reason, va="center", color="0.3")


def _nothing(axis, text):
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.5")
