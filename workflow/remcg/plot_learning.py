"""Figures and tables of what was learned: directions, errors and the course of the entropy."""

import numpy as np

from remcg.identify import UNIT
from remcg.plots import BLOCK_COLORS, _figure, plain_decades, temperature_colors
from remcg.units import KB
from remcg.validate import write_table

SHOWN = 3  # stiffest and as many sloppiest directions
WALL = 4.0  # kT: above it a potential is cut off
NORMAL_95 = 1.96  # standard errors of a band
X_LABEL = {
    "pair": "r (nm)",
    "bond": "length (nm)",
    "angle": "angle (rad)",
    "dihedral": "dihedral (rad)",
    "volume": "v/v₀",
}
LINES = ["-", "--", ":"]
STAGE_TITLES = {"global": "at the reference volumes", "local": "in the states' own ensembles"}
COLUMNS = 3


def spectrum_figure(path, spectrum, n_frozen=0):
    """Eigenvalues of the Fisher matrix, with the measured rank marked.

    Parameters
    ----------
    path : path
    spectrum : remcg.spectrum.Spectrum
    n_frozen : int
        Functions that no ensemble met; named in the title.
    """
    order = np.arange(1, len(spectrum.values) + 1)
    measured = order <= spectrum.rank
    shown = spectrum.values > 0.0
    with _figure(path, (5.2, 3.4)) as figure:
        axis = figure.subplots()
        for part, fill, label in (
            (measured, BLOCK_COLORS[0], "measured"),
            (~measured, "white", "below rounding and noise: left alone"),
        ):
            if (part & shown).any():
                style = {"marker": "o", "ms": 4, "ls": "", "color": BLOCK_COLORS[0]}
                axis.plot(order[part & shown], spectrum.values[part & shown], mfc=fill, **style)
                axis.lines[-1].set_label(label)
        axis.axvline(spectrum.rank + 0.5, color="0.4", lw=1.0, ls="--")
        axis.axhline(1.0, color="0.6", lw=0.7, zorder=0)
        axis.set_yscale("log")
        axis.set_xlim(0.0, len(order) + 1.5)
        axis.set(xlabel="direction, stiffest first", ylabel="eigenvalue of the correlation matrix")
        frozen = f", {n_frozen} functions never met" if n_frozen else ""
        axis.set_title(
            f"rank {spectrum.rank} of {len(order)}, condition {spectrum.condition:.2g}{frozen}",
            loc="left",
        )
        axis.legend(loc="lower left")


def directions_figure(path, curves, numbers, amplitudes, n_shown=SHOWN):
    """The stiffest and the sloppiest directions as changes of the potentials.

    Parameters
    ----------
    path : path
    curves : dict
        From :func:`remcg.identify.directions` of the n_shown stiffest, then the n_shown sloppiest
        directions (the last the sloppiest), each times its amplitude.
    numbers : sequence of int
        Of the directions, 1 for the stiffest.
    amplitudes : sequence of float
        Standard errors along them, square root of nats, from :func:`remcg.spectrum.amplitudes`.
    n_shown : int
    """
    names = list(curves)
    n_columns = min(len(names), COLUMNS)
    n_lines = -(-len(names) // n_columns)  # of each group
    with _figure(path, (3.4 * n_columns + 1.0, 5.4 * n_lines)) as figure:
        axes = figure.subplots(2 * n_lines, n_columns, squeeze=False)
        groups = (("stiffest", slice(None, n_shown)), ("sloppiest", slice(n_shown, None)))
        for cells, (group, part) in zip(np.split(axes, 2), groups):
            for axis, name in zip(cells.flat, names):
                curve = curves[name]
                for i, change in enumerate(curve["dU"][part]):
                    label = f"{numbers[part][i]}: {amplitudes[part][i]:.2g}"
                    style = {"color": BLOCK_COLORS[i % 6], "ls": LINES[i % 3], "label": label}
                    axis.plot(curve["x"], 1e3 * change, **style)
                axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
                axis.set_title(f"{group}, {name}", loc="left")
                per = "/molecule" if curve["kind"] == "volume" else ""
                axis.set(xlabel=X_LABEL[curve["kind"]], ylabel=f"one SE of U{per} (J/mol)")
                _limit_to_sampled(axis, 1e3 * curve["dU"][part])
            for axis in list(cells.flat)[len(names) :]:
                axis.remove()
            cells[0, -1].legend(
                title="direction: SE (√nat)", loc="center left", bbox_to_anchor=(1.0, 0.5)
            )


def bands_figure(path, bands):
    """Potentials with their 95 % bands at each training temperature, the error alone below.

    Parameters
    ----------
    path : path
    bands : dict
        Temperature in K to what :func:`remcg.uncertainty.potential_bands` returns there, "se" left
        out where errors are not known.
    """
    colors = temperature_colors(bands)
    names = list(next(iter(bands.values())))
    n_columns = min(len(names), COLUMNS)
    n_groups = -(-len(names) // n_columns)
    with _figure(path, (3.6 * n_columns + 1.0, 4.3 * n_groups)) as figure:
        grid = figure.add_gridspec(2 * n_groups, n_columns, height_ratios=[2.2, 1] * n_groups)
        for i, name in enumerate(names):
            group, column = divmod(i, n_columns)
            top = figure.add_subplot(grid[2 * group, column])
            bottom = figure.add_subplot(grid[2 * group + 1, column], sharex=top)
            top.tick_params(labelbottom=False)
            for T in sorted(bands):
                x, U = bands[T][name]["x"], bands[T][name]["U"]
                top.plot(x, U, color=colors[T], label=f"{T:g} K")
                if "se" in bands[T][name]:
                    half = NORMAL_95 * bands[T][name]["se"]
                    top.fill_between(x, U - half, U + half, color=colors[T], alpha=0.3, lw=0)
                    bottom.plot(x, half, color=colors[T])
            curves = [bands[T][name] for T in sorted(bands)]
            _limit_to_reached(top, bottom, curves, max(bands))
            top.set_title(name, loc="left")
            if column == 0:
                bottom.set_ylabel("±95 % (kJ/mol)")
            is_volume = curves[0]["kind"] == "volume"
            top.set_ylabel("U − U(v₀) per molecule (kJ/mol)" if is_volume else "U (kJ/mol)")
            bottom.set_xlabel(X_LABEL[curves[0]["kind"]])
            if i == n_columns - 1:
                top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="T, band: 95 %")


def entropy_figure(path, rows):
    """Relative entropy per molecule along the iterations, a panel for each stage.

    Parameters
    ----------
    path : path
    rows : list of dict
        From :func:`remcg.stored.relative_entropy_path`.
    """
    stages = [stage for stage in STAGE_TITLES if any(row["stage"] == stage for row in rows)]
    with _figure(path, (4.2 * len(stages), 3.3)) as figure:
        for axis, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages):
            own = [row for row in rows if row["stage"] == stage]
            x, y, error, line = (
                np.array([row[key] for row in own])
                for key in ("iteration", "nats_per_molecule", "se", "integrated")
            )
            color = BLOCK_COLORS[list(STAGE_TITLES).index(stage)]
            axis.plot(x, 1e3 * line, color="0.6", lw=1.0, label="integrated gradient", zorder=1)
            style = {"marker": "o", "ms": 4, "ls": "", "color": color, "capsize": 2}
            axis.errorbar(x, 1e3 * y, 2e3 * error, label="free energies, 2 SE", **style)
            axis.axhline(0.0, color="0.6", lw=0.7, ls="--", zorder=0)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set(xlabel="iteration", ylabel="S$_{rel}$ above the last (10⁻³ nats/molecule)")
            axis.set_title(STAGE_TITLES[stage], loc="left")
            axis.legend(loc="upper right")


def noise_figure(path, iterations, model, reference):
    """Divergence that the noise of the model's and of the reference's samples causes.

    Parameters
    ----------
    path : path
    iterations : sequence of int
    model, reference : sequence of float
        tr[F^-1 C]/2 of each side, nats per box.
    """
    x = np.asarray(iterations, float)
    model, reference = np.asarray(model, float), np.asarray(reference, float)
    share = model / np.maximum(model + reference, 1e-300)
    with _figure(path, (8.4, 3.3)) as figure:
        left, right = figure.subplots(1, 2)
        lines = {"marker": "o", "ms": 4, "label": "model samples"}
        left.plot(x, model, color=BLOCK_COLORS[0], **lines)
        lines = {"marker": "s", "ms": 4, "label": "reference", "ls": "--"}
        left.plot(x, reference, color=BLOCK_COLORS[1], **lines)
        left.set_yscale("log")
        plain_decades(left.yaxis)
        left.legend(loc="upper right")
        left.set(ylabel="divergence due to noise (nats)")
        right.bar(x, 100 * share, color=BLOCK_COLORS[0], label="model samples")
        right.bar(
            x, 100 - 100 * share, bottom=100 * share, color=BLOCK_COLORS[1], label="reference"
        )
        right.set(ylabel="share of the noise (%)", ylim=(0, 100))
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axis in (left, right):
            axis.set_xlabel("iteration")
            axis.xaxis.get_major_locator().set_params(integer=True)


def basis_figure(path, size):
    """Bias, variance and their sum against the number of basis functions.

    Parameters
    ----------
    path : path
    size : remcg.basis_size.BasisSize
    """
    total = size.bias + size.variance  # estimates below zero are not drawn
    with _figure(path, (5.2, 3.4)) as figure:
        axis = figure.subplots()
        axis.plot(size.candidates, size.bias, color=BLOCK_COLORS[0], ls="--", label="bias")
        axis.plot(size.candidates, size.variance, color=BLOCK_COLORS[1], ls=":", label="variance")
        axis.plot(size.candidates, total, color="0.15", marker="o", ms=3, label="sum")
        axis.axvline(size.n_basis, color="0.4", lw=1.0, ls="--", label=f"chosen: {size.n_basis}")
        if (total > 0.0).any():
            axis.set_yscale("log")
            axis.set_ylim(bottom=0.2 * total[total > 0.0].min())
        axis.set(xlabel="number of basis functions", ylabel="expected divergence (nats)")
        axis.legend(loc="upper right")


def write_spectrum_table(path, spectrum, amplitudes):
    """Eigenvalue of each direction, whether it counts as measured, and its standard error."""
    rows = []
    for i, value in enumerate(spectrum.values):
        measured = i < spectrum.rank
        error = amplitudes[i] if measured else ""
        rows.append([f"{i + 1}", value, "yes" if measured else "no", error])
    write_table(path, ["direction", "eigenvalue", "measured", "se_sqrt_nat"], rows)


def write_unsampled_table(path, functions):
    """Frozen functions with their support, one per row."""
    rows = [
        [f.term, f"{f.function}", *("" if np.isnan(v) else v for v in (f.low, f.high)), f.unit]
        for f in functions
    ]
    write_table(path, ["term", "function", "low", "high", "unit"], rows)


def write_directions_table(path, curves, labels):
    """Directions as potentials: one row per place, one column per direction, kJ/mol."""
    rows = [
        [name, _x_unit(curve), x, *changes]
        for name, curve in curves.items()
        for x, changes in zip(curve["x"], curve["dU"].T)
    ]
    write_table(path, ["term", "unit", "x", *labels], rows)


def write_bands_table(path, bands):
    """U and its standard error at each temperature, kJ/mol; one row per term and place."""
    temperatures = sorted(bands)
    first = bands[temperatures[0]]
    keys = [key for key in ("U", "se") if all(key in curve for curve in first.values())]
    header = [f"{'U_se' if key == 'se' else key}_{T:g}K" for T in temperatures for key in keys]
    rows = []
    for name, curve in first.items():
        columns = [bands[T][name][key] for T in temperatures for key in keys]
        rows += [[name, _x_unit(curve), *row] for row in zip(curve["x"], *columns)]
    write_table(path, ["term", "unit", "x", *header], rows)


def write_entropy_table(path, rows):
    """The rows of :func:`remcg.stored.relative_entropy_path`."""
    header = ["iteration", "stage", "nats_per_molecule", "se", "integrated", "overlap"]
    write_table(path, header, [[row[key] for key in header] for row in rows])


def write_noise_table(path, iterations, model, reference):
    """Divergence due to the noise of either side, nats, and the model's share."""
    rows = [
        [f"{i}", m, r, m / (m + r) if m + r > 0 else ""]
        for i, m, r in zip(iterations, model, reference)
    ]
    write_table(path, ["iteration", "model_nats", "reference_nats", "model_share"], rows)


def write_basis_table(path, size):
    """Candidates of the number of functions with bias and variance, nats."""
    rows = [[f"{n}", b, v, b + v] for n, b, v in zip(size.candidates, size.bias, size.variance)]
    write_table(path, ["n_basis", "bias_nats", "variance_nats", "sum_nats"], rows)


def _x_unit(curve):
    return "v/v0" if curve["kind"] == "volume" else UNIT[curve["kind"]]


def _limit_to_sampled(axis, changes):
    """Limits that the hardly sampled core, with changes of any size, does not set."""
    largest = 3.0 * np.quantile(np.abs(changes), 0.8)
    if np.abs(changes).max() > largest > 0.0:
        axis.set_ylim(-largest, largest)


def _limit_to_reached(top, bottom, curves, temperature):
    """Limits from where the potentials are below WALL kT."""
    if curves[0]["kind"] == "volume":
        bottom.set_ylim(bottom=0.0)
        return
    reached = np.min([c["U"] for c in curves], axis=0) < WALL * KB * temperature
    low, high = (f([f(c["U"][reached]) for c in curves]) for f in (np.min, np.max))
    margin = 0.08 * (high - low)
    top.set_ylim(low - margin, high + margin)
    largest = max(c["se"][reached].max() if "se" in c else 0.0 for c in curves)
    bottom.set_ylim(0.0, 1.15 * NORMAL_95 * largest or 1.0)
    top.axhline(0.0, color="0.6", lw=0.7, zorder=0)
