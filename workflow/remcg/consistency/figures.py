"""Figures of the consistency of a campaign: curves and numbers in, one PNG out."""

import numpy as np

from remcg.consistency.campaign import isotherms
from remcg.consistency.transferability import null_density
from remcg.plots import (
    BLOCK_COLORS,
    MAX_COLUMNS,
    REFERENCE_COLOR,
    _figure,
    empty_figure,
    legend_above,
    plain_decades,
    shortened,
    side_handles,
    some,
    state_title,
    temperature_colors,
)

LABELS = {
    "structure_factor": ("k (1/nm)", "S(k)"),
    "neighbor_angles": ("angle (degrees)", "p (1/rad)"),
    "coordination": ("neighbours", "probability"),
}
MOST_ROWS = 3  # of each kind of curve; tables have all
MOST_WRITTEN, LETTERS = 12, 90  # states with numbers in the heat map; letters below it
MODEL_LETTERS = 26
MOST_ISOTHERMS, MOST_TOLD = 9, 3  # that are drawn; densities of isochores that are named
LEAST_SHOWN = 5e-4  # nats
THERMAL = {"isotherm_bar", "isochore_bar", "thermal_expansion_1_K"}
SHOWN_LOG = -2.0  # decades of nats: smaller penalties have the lightest colour


def curve_figure(path, states, kinds):
    """Curves of both sides: one row per kind and name, one column per state, differences below.

    Parameters
    ----------
    path : path
    states : list of (dict, dict)
        Numbers (id, use, temperature_K) and curves of each state, in order.
    kinds : sequence of str
        Of ``LABELS``.
    """
    keys = list(dict.fromkeys(key[:2] for _, c in states for key in c if key[0] in kinds))
    keys = _most_telling(keys, kinds, states)
    n_columns = min(len(states), MAX_COLUMNS)
    n_lines = -(-len(states) // n_columns)
    colors = temperature_colors([numbers["temperature_K"] for numbers, _ in states])
    height = 3.0 * n_lines * max(len(keys), 1) + 0.4
    if not keys:
        empty_figure(path, "No configurations were kept, or sites have no neighbours.")
        return
    with _figure(path, (2.15 * n_columns + 1.0, height)) as figure:
        ratios = [3.0, 1.2] * (n_lines * len(keys))
        grid = figure.add_gridspec(len(ratios), n_columns, height_ratios=ratios)
        for i, key in enumerate(keys):
            first = None
            for s, (numbers, curves) in enumerate(states):
                if (*key, "model") not in curves:
                    continue
                line, column = i * n_lines + s // n_columns, s % n_columns
                share = {"sharex": first[0], "sharey": first[0]} if first else {}
                top = figure.add_subplot(grid[2 * line, column], **share)
                below = {"sharey": first[1]} if first else {}
                bottom = figure.add_subplot(grid[2 * line + 1, column], sharex=top, **below)
                if first is None:
                    first = (top, bottom)
                    top.set_ylim(*_limits(key, states))
                _draw_pair(top, bottom, key, numbers, curves, colors[numbers["temperature_K"]])
                top.tick_params(labelbottom=False, labelleft=column == 0)
                bottom.tick_params(labelleft=column == 0)
                bottom.set_xlabel(LABELS[key[0]][0])
                if column == 0:
                    top.set_ylabel(f"{LABELS[key[0]][1]}, {key[1]}")
                    bottom.set_ylabel("difference")
        _side_legend(figure, colors, any(key[2] == "rdf" for _, c in states for key in c
                                         if key[0] in kinds))  # fmt: skip


def _most_telling(keys, kinds, states):
    """Of each kind the MOST_ROWS names that differ most, in units of their errors, in order."""

    def differs(key):
        kind, name = key
        rows = [n[kind][name] for n, _ in states if name in n.get(kind, {})]
        if kind == "structure_factor":
            return max(row["rmse"] / max(row["noise_floor_rmse"], 1e-12) for row in rows)
        return max(row["js_bits"] / max(row["js_bits_se"], 1e-12) for row in rows)

    chosen = []
    for kind in kinds:
        own = [key for key in keys if key[0] == kind]
        most = sorted(own, key=differs, reverse=True)[:MOST_ROWS]
        chosen += [key for key in own if key in most]
    return chosen


def _limits(key, states):
    """Limits of an axis that leave room for its numbers."""
    values = np.concatenate(
        [c[*key, side][1] for _, c in states for side in ("reference", "model")
         if (*key, side) in c]
    )  # fmt: skip
    low, high = min(values.min(), 0.0), values.max()
    if key[0] == "structure_factor":
        return low - 0.2 * (high - low) * (low < 0.0), high + 0.1 * (high - low)
    return low, (1.5 if key[0] == "coordination" else 1.3) * high


def _draw_pair(top, bottom, key, numbers, curves, color):
    kind, name = key
    reference, model = curves[*key, "reference"], curves[*key, "model"]
    scale = 180.0 / np.pi if kind == "neighbor_angles" else 1.0
    if kind == "coordination":
        bottom.xaxis.get_major_locator().set_params(integer=True)
        x = np.arange(max(len(reference[0]), len(model[0])))
        padded = [np.pad(c, ((0, 0), (0, len(x) - c.shape[1]))) for c in (reference, model)]
        reference, model = (np.array([x, *c[1:]]) for c in padded)
    x = scale * reference[0]
    style = {"drawstyle": "steps-mid"} if kind == "coordination" else {}
    step = {"step": "mid"} if kind == "coordination" else {}
    top.plot(x, reference[1], color=REFERENCE_COLOR, lw=2.6, alpha=0.35, **style)
    top.fill_between(x, model[1] - 2 * model[2], model[1] + 2 * model[2], color=color, alpha=0.3,
                     lw=0, **step)  # fmt: skip
    top.plot(x, model[1], color=color, lw=1.2, **style)
    if (*key, "rdf") in curves:
        k, value, _ = curves[*key, "rdf"]
        top.plot(k, value, ls="", marker="x", ms=3, mew=0.7, color="0.35")
    noise = 2 * np.hypot(reference[2], model[2])
    bottom.fill_between(x, -noise, noise, color="0.85", lw=0, **step)
    bottom.plot(x, model[1] - reference[1], color=color, lw=1.0, **style)
    state_title(top, numbers)
    y, va = (0.05, "bottom") if kind == "structure_factor" else (0.96, "top")
    top.text(0.97, y, _caption(numbers, kind, name), transform=top.transAxes, ha="right", va=va,
             fontsize=7)  # fmt: skip


def _caption(numbers, kind, name):
    entry = numbers[kind][name]
    if kind == "structure_factor":
        return f"rmse {entry['rmse']:.3f}\nnoise {entry['noise_floor_rmse']:.3f}"
    text = f"JS {1e3 * entry['js_bits']:.2f} ± {1e3 * entry['js_bits_se']:.2f}\n"
    text += f"floor {1e3 * entry['noise_floor_js_bits']:.2f} mbit"
    if kind == "coordination":
        text += f"\nmean {entry['reference']:.2f} | {entry['model']:.2f}"
    return text


def penalty_figure(path, table, states):
    """Penalties of every model where it is used: a heat map, against temperature, and the null.

    Parameters
    ----------
    path : path
    table : dict of dict of remcg.consistency.transferability.Penalty
    states : list of dict
        id, use, temperature_K.
    """
    names = [state["id"] for state in states]
    with _figure(path, (11.2, max(0.3 * len(table) + 1.6, 3.6) + 3.3)) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=[0.3 * len(table) + 1.6, 3.3])
        _heat_map(above, above.subplots(), table, names)
        left, right = below.subplots(1, 2)
        _against_temperature(left, table, states)
        _null_distributions(right, table, states)


def _heat_map(figure, axis, table, names):
    from matplotlib.colors import Normalize

    values = np.full((len(table), len(names)), np.nan)
    for i, row in enumerate(table.values()):
        for name, p in row.items():
            values[i, names.index(name)] = max(p.value, 10.0**SHOWN_LOG)
    top = max(np.nanmax(np.log10(values)), 0.0)
    image = axis.imshow(np.log10(values), cmap="cividis_r", aspect="auto",
                        norm=Normalize(SHOWN_LOG, top))  # fmt: skip
    for i, row in enumerate(table.values()):
        for name, p in row.items() if len(names) <= MOST_WRITTEN else ():
            dark = image.norm(np.log10(max(p.value, 10.0**SHOWN_LOG))) > 0.5
            weight = "bold" if p.value > p.null and not _is_exact(p) else "normal"
            axis.text(names.index(name), i, _written(p), ha="center", va="center", fontsize=7,
                      color="white" if dark else "black", weight=weight)  # fmt: skip
    few = len(names) * max(map(len, names)) < LETTERS
    axis.set_xticks(range(len(names)), map(shortened, names), rotation=0 if few else 90)
    axis.set_yticks(range(len(table)), [_model_label(name) for name in table])
    axis.set(xlabel="used at", ylabel="model")
    axis.grid(False)
    written = "penalty ± SE (nats per box); bold: significant; *: beyond the local estimate"
    few = len(names) <= MOST_WRITTEN
    axis.set_title(written if few else "penalty (nats per box)", loc="left", fontsize=8)
    figure.colorbar(image, ax=axis, label="log₁₀ nats", shrink=0.8, pad=0.02)


def _model_label(name):
    named = {
        "constant": "one potential for all T",
        "joint": "terms of the model, refitted",
        "without": "without that state",
        "others": "from all other states",
        "model": "the model",
    }
    return named.get(name) or shortened(name, MODEL_LETTERS)


def _is_exact(p):
    """Zero by construction: a state's own model, or as many terms as there are states."""
    return max(abs(p.value), p.se) < LEAST_SHOWN


def _written(p):
    """A penalty and its error, with as many digits as the error needs."""
    if _is_exact(p):
        return "0"
    if p.value >= 1000.0:
        text = f"{p.value:.1e}"
    else:
        digits = int(np.clip(1 - np.floor(np.log10(max(p.se, 1e-9))), 1, 3))
        text = f"{p.value:.{digits}f} ± {p.se:.{digits}f}"
    return (text if p.is_local else f"{text}*").replace("-", "−")


def _against_temperature(axis, table, states):
    from matplotlib.patches import Patch

    T = {state["id"]: state["temperature_K"] for state in states}
    order = sorted(T, key=T.get)
    single = [name for name in table if name.endswith(" alone")]
    outer = [name for name in (f"{order[0]} alone", f"{order[-1]} alone") if name in single]
    named = [name for name in ("constant", "without", "others", "model") if name in table]
    shown = [*dict.fromkeys(outer), *named]
    for name, color in zip(shown, BLOCK_COLORS):
        x = [s for s in order if s in table[name]]
        value = np.array([table[name][s].value for s in x])
        error = np.array([table[name][s].se for s in x])
        axis.errorbar([T[s] for s in x], value, 2 * error, marker="o", ms=4, lw=1.0, capsize=2,
                      color=color, label=_model_label(name))  # fmt: skip
    row = table["model"]
    null = [row[s].null for s in order]
    low = [-row[s].bias for s in order]
    axis.fill_between([T[s] for s in order], low, null, color="0.85", lw=0)
    if len(order) == 1:
        axis.errorbar([T[order[0]]], null, color="0.7", marker="_")
    axis.set_yscale("symlog", linthresh=0.2)
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(xlabel="temperature (K)", ylabel="penalty (nats per box)")
    handles, _ = axis.get_legend_handles_labels()
    handles.append(Patch(color="0.85", label="95 % of values without a loss"))
    axis.legend(handles=handles, fontsize=7, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2,
                columnspacing=1.0, handlelength=1.5)  # fmt: skip


def _null_distributions(axis, table, states):
    """What noise alone gives the model at each state, as a density, and what was found."""
    order = sorted(states, key=lambda state: state["temperature_K"])
    for place, state in enumerate(order):
        p = table["model"][state["id"]]
        x = np.linspace(-p.bias, max(2.5 * p.null, p.value + p.se, 1e-6), 300)
        density = null_density(p, x)
        if density.max() > 0.0:
            axis.fill_between(x, place, place + 0.8 * density / density.max(), color="0.8", lw=0)
        axis.plot([p.null] * 2, [place, place + 0.45], color="0.4", lw=1.0)
        color = BLOCK_COLORS[0 if state["use"] == "train" else 1]
        axis.errorbar(p.value, place + 0.25, xerr=2 * p.se, marker="o", ms=5, color=color,
                      mfc=color if state["use"] == "train" else "white", capsize=2)  # fmt: skip
        axis.text(1.0, place + 0.3, f"p = {p.p_value:.2g}", transform=axis.get_yaxis_transform(),
                  ha="right", fontsize=7)  # fmt: skip
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.12 * (high - low))
    axis.axvline(0.0, color="0.6", lw=0.7, zorder=0)
    names = [shortened(state["id"]) for state in order]
    axis.set_yticks([k + 0.25 for k in range(len(order))], names)
    axis.set(xlabel="penalty of the model (nats per box)", ylim=(-0.2, len(order)))
    axis.set_title("grey: its distribution without a loss; tick: 95 % of it", loc="left",
                   fontsize=8)  # fmt: skip


def dynamics_figure(path, states):
    """Mean-squared displacement, diffusion and speed-up over temperature, memory of the model.

    Parameters
    ----------
    path : path
    states : list of (dict, dict)
        As for :func:`curve_figure`.
    """
    colors = temperature_colors([numbers["temperature_K"] for numbers, _ in states])
    with _figure(path, (10.6, 5.8)) as figure:
        axes = figure.subplots(2, 3)
        msd, diffusion, ratio, velocity, kernel, friction = axes.ravel()
        for numbers, curves in states:
            color = colors[numbers["temperature_K"]]
            for side, style in (("reference", "--"), ("model", "-")):
                if ("msd", "centres", side) in curves:
                    _line(msd, curves["msd", "centres", side][:, 1:], color, style)
                for axis, kind in ((velocity, "velocity"), (kernel, "kernel")):
                    if (kind, "centres", side) in curves:
                        _line(axis, curves[kind, "centres", side], color, style)
        _draw_diffusion(diffusion, states)
        _draw_ratio(ratio, states)
        _draw_friction(friction, states)
        msd.set(xscale="log", yscale="log", xlabel="t (ps)", ylabel="MSD (nm²)")
        for axis in (velocity, kernel):
            axis.axhline(0.0, color="0.6", lw=0.7)
        velocity.set(xlabel="t (ps)", ylabel="⟨v(0)·v(t)⟩ / ⟨v²⟩", xlim=(0.0, 0.6))
        kernel.set(xlabel="t (ps)", ylabel="memory kernel K(t) (ps⁻²)", xlim=(0.0, 0.4))
        for axis in (diffusion, ratio, friction):
            axis.set_xlabel("temperature (K)")
        _temperature_legend(figure, colors)


def _line(axis, curve, color, style):
    x, y, error = curve
    axis.plot(x, y, style, color=color, lw=1.1)
    axis.fill_between(x, y - 2 * error, y + 2 * error, color=color, alpha=0.25, lw=0)


def _draw_diffusion(axis, states):
    for side, marker, color in (
        ("reference", "s", REFERENCE_COLOR),
        ("model", "o", BLOCK_COLORS[0]),
    ):
        rows = [(n["temperature_K"], n["diffusion_nm2_ps"]) for n, _ in states
                if side in n.get("diffusion_nm2_ps", {})]  # fmt: skip
        if rows:
            value = np.array([row[side] for _, row in rows])
            error = np.array([row[f"{side}_se"] for _, row in rows])
            axis.errorbar([T for T, _ in rows], 1e3 * value, 2e3 * error, marker=marker, ms=5,
                          ls="", color=color, capsize=2, label=side)  # fmt: skip
    axis.set(ylabel="D (10⁻³ nm²/ps)", yscale="log")
    plain_decades(axis.yaxis)
    _own_legend(axis)


def _draw_ratio(axis, states):
    rows = [(n["temperature_K"], n["speed_up"]) for n, _ in states if "speed_up" in n]
    if not rows:
        _nothing(axis, "no diffusion of the reference")
    for T, row in rows:
        axis.errorbar(T, row["value"], 2 * row["se"], marker="o", ms=5, capsize=2,
                      color=BLOCK_COLORS[0])  # fmt: skip
    axis.axhline(1.0, color="0.6", lw=0.7)
    axis.set_ylabel("speed-up: D model / reference")


def _draw_friction(axis, states):
    """K(0) from the velocities over K(0) from the forces: one, by fluctuation and dissipation.

    A finite time step shifts it by the order of K(0) times its square.
    """
    names = "kernel_zero_1_ps2", "force_kernel_zero_1_ps2"
    for side, marker, color in (
        ("reference", "s", REFERENCE_COLOR),
        ("model", "o", BLOCK_COLORS[0]),
    ):
        found = [(n["temperature_K"], n["memory"][side]) for n, _ in states
                 if set(names) <= n.get("memory", {}).get(side, {}).keys()]  # fmt: skip
        if not found:
            continue
        values = np.array([[row[name] for name in names] for _, row in found])
        errors = np.array([[row[f"{name}_se"] for name in names] for _, row in found])
        ratio = values[:, 0] / values[:, 1]
        error = ratio * np.linalg.norm(errors / values, axis=1)
        shift = 0.6 if side == "model" else -0.6
        axis.errorbar([T + shift for T, _ in found], ratio, 2 * error, marker=marker, ms=5, ls="",
                      color=color, capsize=2, label=side)  # fmt: skip
    axis.axhline(1.0, color="0.6", lw=0.7, zorder=0)
    axis.set_ylabel("K(0): velocities / forces")
    _own_legend(axis)


def state_figure(path, states):
    """P(rho) at each temperature, P(T) at one density, and what is compared of both.

    Parameters
    ----------
    path : path
    states : list of dict
        As in ``consistency/states.json``.
    """
    found = [state.get("consistency", {}) for state in states]
    T = [state["temperature_K"] for state in states]
    if not any(THERMAL & row.keys() for row in found):
        empty_figure(path, "No state has a constant pressure: no volume fluctuates or expands, so "
                           "that no equation of state can be told.")  # fmt: skip
        return
    with _figure(path, (10.2, 6.6)) as figure:
        above, below = figure.subfigures(2, 1)
        along, isochore = above.subplots(1, 2, width_ratios=[1.6, 1.0])
        _draw_isotherms(along, states)
        _draw_isochore(isochore, T, [row.get("isochore_bar", {}) for row in found])
        axes = below.subplots(1, 3)
        for axis, key, scale, label in (
            (axes[0], "thermal_expansion_1_K", 1e4, "thermal expansion (10⁻⁴ K⁻¹)"),
            (axes[1], "thermal_pressure_bar_K", 1.0, "(∂P/∂T)ᵥ = α/κ (bar/K)"),
        ):
            _draw_sides(axis, T, [row.get(key, {}) for row in found], scale)
            axis.set_ylabel(label)
        _draw_differences(axes[2], T, [row.get("isotherm_bar", {}) for row in found])
        for axis in (isochore, *axes):
            axis.set_xlabel("temperature (K)")
        _point_legend(figure)


def _draw_sides(axis, T, rows, scale=1.0):
    """A quantity of both sides at each temperature."""
    if not any(rows):
        _nothing(axis, "no isobar of two temperatures")
    for at, entry in zip(T, rows):
        for side, shift, marker, color in (
            ("reference", -0.6, "s", REFERENCE_COLOR),
            ("model", 0.6, "o", BLOCK_COLORS[0]),
        ):
            if side in entry:
                error = 2 * scale * entry[f"{side}_se"]
                axis.errorbar(at + shift, scale * entry[side], error, marker=marker, ms=5,
                              capsize=2, color=color)  # fmt: skip


def _draw_isochore(axis, T, rows):
    _draw_sides(axis, T, rows)
    axis.set_ylabel("pressure (bar)")
    densities = sorted({row["density_kg_m3"] for row in rows if row})
    told = " and ".join(f"{rho:.0f}" for rho in densities[:MOST_TOLD])
    more = ", …" if len(densities) > MOST_TOLD else ""
    axis.set_title(f"isochore at {told}{more} kg/m³" if densities else "isochore", loc="left")


def _draw_isotherms(axis, states):
    """Isotherms of both sides around the reference's densities, bands of two standard errors."""
    states = [s for s in states if "isotherm_bar" in s.get("consistency", {})]
    if not states:
        _nothing(axis, "no state at constant pressure")
        return
    colors = temperature_colors([state["temperature_K"] for state in states])
    for state in some(states, MOST_ISOTHERMS):
        rho, (x, *own) = state["density_kg_m3"], isotherms(state, 21)
        for side, color, style, y, error in (
            ("reference", REFERENCE_COLOR, {"lw": 2.6, "alpha": 0.35}, *own[:2]),
            ("model", colors[state["temperature_K"]], {"lw": 1.2}, *own[2:]),
        ):
            axis.fill_between(x, y - 2 * error, y + 2 * error, color=color, alpha=0.18, lw=0)
            label = f"{state['temperature_K']:g} K" if side == "model" else None
            axis.plot(x, y, color=color, label=label, **style)
            marker = "o" if side == "model" else "s"
            axis.plot(rho[side], state["pressure_bar"]["target"], marker, ms=4, color=color)
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(xlabel="density (kg/m³)", ylabel="pressure (bar)")
    axis.set_title("isotherms from density and compressibility; marks: sampled", loc="left")
    axis.legend(fontsize=7, loc="best")


def _draw_differences(axis, T, rows):
    if not any(rows):
        _nothing(axis, "no state at constant pressure")
    for at, row in zip(T, rows):
        if row:
            axis.errorbar(at, row["rms"], 2 * row["se"], marker="o", ms=5, capsize=2,
                          color=BLOCK_COLORS[0])  # fmt: skip
            axis.plot(at, row["noise_floor"], marker="_", ms=16, mew=2, color="0.55")
    axis.set_ylim(0.0, None)
    axis.set_ylabel("rms pressure difference (bar)")
    axis.set_title("grey bar: noise floor", loc="left")


def _own_legend(axis):
    if axis.get_legend_handles_labels()[0]:
        axis.legend()


def _point_legend(figure):
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker="s", color=REFERENCE_COLOR, label="reference"),
        Line2D([], [], ls="", marker="o", color=BLOCK_COLORS[0], label="model (bars, bands: 2 SE)"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)


def _side_legend(figure, colors, has_transform=False):
    from matplotlib.lines import Line2D

    handles = side_handles(colors, with_difference=True)
    if has_transform:
        style = {"ls": "", "marker": "x", "ms": 3, "mew": 0.7, "color": "0.35"}
        handles.insert(1, Line2D([], [], label="reference, from g(r)", **style))
    legend_above(figure, handles)


def _temperature_legend(figure, colors):
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color="0.3", ls=ls, label=label) for ls, label in
               (("--", "reference"), ("-", "model"))]  # fmt: skip
    shown = some(list(colors))
    handles += [Line2D([], [], color=colors[T], label=f"{T:g} K") for T in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 9))


def _nothing(axis, text):
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.5")
    axis.set(xticks=[], yticks=[])
