"""Figures of ``remcg compare``: several campaigns in one."""

from collections import Counter

import numpy as np

from remcg.plots import BLOCK_COLORS, REFERENCE_COLOR, _figure, _nothing
from remcg.units import KB

LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vP"
SPREAD = 1.0  # K between points of one state
SHOWN_KT = 2.0  # height above the minimum up to which a potential is shown


def _style(k):
    line = LINES[(k // len(BLOCK_COLORS)) % len(LINES)]
    return {"color": BLOCK_COLORS[k % len(BLOCK_COLORS)], "ls": line}


def score_figure(path, campaigns, rows):
    """Errors of g(r) and density and the loss of transferability against temperature.

    Parameters
    ----------
    path : path
    campaigns : list of remcg.campaigns.Finished
    rows : list of dict
        From :func:`remcg.campaigns.scores`, of all campaigns.
    """
    panels = (
        ("rdf_rmse", "rmse of g(r), worst pair", 1.0),
        ("density_percent", "density deviation (%)", 1.0),
        ("penalty", "loss (10⁻³ nats per site)", 1e3),
    )
    shifts = SPREAD * (np.arange(len(campaigns)) - 0.5 * (len(campaigns) - 1))
    with _figure(path, (10.6, 3.6)) as figure:
        for axis, (key, label, scale) in zip(figure.subplots(1, 3), panels):
            for k, (item, shift) in enumerate(zip(campaigns, shifts)):
                own = [row for row in rows if row["campaign"] == item.name and key in row]
                for row in own:
                    _point(axis, row, key, shift, k, scale)
            if not axis.containers:
                _nothing(axis, "not measured")
            elif key == "rdf_rmse":
                axis.set_yscale("log")
            else:
                axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
            axis.set(xlabel="temperature (K)", ylabel=label)
        _legend(figure, campaigns, points=True)


def _point(axis, row, key, shift, k, scale):
    color, T = _style(k)["color"], row["temperature_K"] + shift
    value, error = (scale * x for x in row[key])
    axis.errorbar(T, value, 2 * error, marker=MARKERS[k % len(MARKERS)], ms=5, color=color,
                  mfc=color if row["use"] == "train" else "white", capsize=2)  # fmt: skip
    if key == "rdf_rmse" and row.get("rdf_noise", (0.0,))[0] > 0.0:
        axis.plot(T, row["rdf_noise"][0], marker="_", ms=9, mew=1.5, color="0.55")


def rdf_figure(path, campaigns, states):
    """g(r) of all campaigns at shared states, deviations below; one row per pair.

    Parameters
    ----------
    path : path
    campaigns : list of remcg.campaigns.Finished
    states : list of str
    """
    pairs = list(dict.fromkeys(p for c in campaigns for s in states for p in c.rdfs.get(s, {})))
    size = max(2.3 * len(states) + 1.0, 5.0), 3.2 * len(pairs) + 0.5
    with _figure(path, size) as figure:
        axes = figure.subplots(2 * len(pairs), len(states), squeeze=False, sharex="row",
                               sharey="row", height_ratios=[3, 1.6] * len(pairs))  # fmt: skip
        for p, pair in enumerate(pairs):
            for axis, below, state in zip(axes[2 * p], axes[2 * p + 1], states):
                _draw_rdfs(axis, below, campaigns, state, pair)
                axis.set_title(state, loc="left")
                axis.tick_params(labelbottom=False)
                below.set_xlabel("r (nm)")
            axes[2 * p, 0].set_ylabel(f"g(r), {pair}")
            axes[2 * p + 1, 0].set_ylabel("difference")
        _legend(figure, campaigns, reference=True)


def _draw_rdfs(axis, below, campaigns, state, pair):
    drawn, first = False, []
    for k, item in enumerate(campaigns):
        own = item.rdfs.get(state, {}).get(pair)
        if own is None:
            continue
        r, reference, model = (own[key] for key in ("r_nm", "g_reference", "g_model"))
        if not drawn:
            axis.plot(r, reference, color=REFERENCE_COLOR, lw=3.0, alpha=0.3)
            drawn = True
        noise = 2.0 * np.hypot(own["g_reference_se"], own["g_model_se"])
        axis.plot(r, model, lw=1.1, **_style(k))
        below.plot(r, model - reference, lw=1.1, **_style(k))
        below.fill_between(r, model - reference - noise, model - reference + noise, lw=0,
                           alpha=0.2, color=_style(k)["color"])  # fmt: skip
        first.append(r[np.argmax(reference + model > 0.01)])
    below.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    if first:
        axis.set_xlim(left=max(min(first) - 0.05, 0.0))
        below.set_xlim(left=max(min(first) - 0.05, 0.0))


def potential_figure(path, campaigns):
    """Pair potentials of all campaigns at one temperature.

    Parameters
    ----------
    path : path
    campaigns : list of remcg.campaigns.Finished
    """
    pairs = list(dict.fromkeys(pair for item in campaigns for pair in item.potentials))
    columns = min(len(pairs), 3)
    lines = -(-len(pairs) // columns)
    with _figure(path, (3.9 * columns + 0.6, 3.1 * lines + 0.5)) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis, pair in zip(axes, pairs):
            _draw_potentials(axis, campaigns, pair)
        for axis in axes[len(pairs) :]:
            axis.remove()
        _legend(figure, campaigns)


def _draw_potentials(axis, campaigns, pair):
    known = [(k, item.potentials[pair]) for k, item in enumerate(campaigns)
             if pair in item.potentials]  # fmt: skip
    T = _common_temperature([own for _, own in known])
    low, high = [], []
    for k, own in known:
        key = f"U_{T:g}K"
        if key not in own:
            continue
        r, energy = own["r_nm"], own[key]
        error = 2.0 * own.get(f"{key}_se", np.zeros(len(r)))
        axis.plot(r, energy, lw=1.2, **_style(k))
        axis.fill_between(r, energy - error, energy + error, alpha=0.25, lw=0,
                          color=_style(k)["color"])  # fmt: skip
        reached = energy < energy.min() + 1.5 * SHOWN_KT * KB * T
        low.append((energy - error)[reached].min())
        high.append((energy + error)[reached].max())
    if low:
        margin = 0.08 * max(max(high) - min(low), 1e-3)
        axis.set_ylim(min(low) - margin, max(high) + margin)
    axis.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    axis.set(xlabel="r (nm)", ylabel=f"U(r; {T:g} K) (kJ/mol)")
    axis.set_title(pair, loc="left")


def _common_temperature(tables):
    """The one that most have; of several, that in their middle."""
    counts = Counter(float(key[2:-1]) for own in tables for key in own
                     if key.startswith("U_") and key.endswith("K"))  # fmt: skip
    most = sorted(T for T, n in counts.items() if n == max(counts.values()))
    return most[len(most) // 2]


def _legend(figure, campaigns, points=False, reference=False):
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=REFERENCE_COLOR, lw=3.0, alpha=0.3, label="reference")]
    handles = handles if reference else []
    for k, item in enumerate(campaigns):
        marker = {"marker": MARKERS[k % len(MARKERS)], "ls": ""} if points else {}
        handles.append(Line2D([], [], label=item.name, **{**_style(k), **marker}))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
