"""Figures of backmapped structures: against their reference, and what they look like."""

import numpy as np

from remcg.backmap.checks import VDW_RADII, bonds_of, close_pairs
from remcg.boxes import many
from remcg.plots import (
    BLOCK_COLORS,
    REFERENCE_COLOR,
    X_LABEL,
    _figure,
    _nothing,
)
from remcg.statistics import block_mean, mean_and_error
from remcg.validate import write_table

N_COLUMNS = 5
MOST_DISTRIBUTIONS = 20
MOST_RANKS = 5
SOURCES = {
    "mapped": ("of the mapped reference", BLOCK_COLORS[0]),
    "predicted": ("of the coarse-grained model", BLOCK_COLORS[1]),
}
ELEMENT_COLORS = {  # after Corey, Pauling and Koltun
    "H": "0.93", "C": "0.35", "N": "#3050F8", "O": "#E0331F", "F": "#90E050", "P": "#FF8000",
    "S": "#E6C62E", "Cl": "#1FC01F",
}  # fmt: skip
SITE_COLORS = ["#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00"]
BALL = 0.28  # of the van der Waals radius
SHOWN = 0.62  # nm around the molecule in the middle
VIEW = (25.0, 35.0)  # degrees about x and y
SITE_RADIUS = 0.14  # nm


def state_figure(path, title, comparisons):
    """Everything that is compared of one state.

    Parameters
    ----------
    path : path
    title : str
    comparisons : dict of remcg.backmap.validation.Comparison
        By "mapped" and "predicted", or one of them.
    """
    panels = _panels(comparisons)
    n_rows = max(-(-len(panels) // N_COLUMNS), 1)
    with _figure(path, (11.0, 2.05 * n_rows + 0.6)) as figure:
        axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
        for axis, (draw, key) in zip(axes, panels):
            draw(axis, key, comparisons)
        for axis in axes[len(panels) :]:
            axis.remove()
        if not panels:
            figure.text(0.5, 0.4, "nothing to compare with this method", ha="center", color="0.5")
        _legend(figure, title, comparisons)


def write_state_table(path, comparisons):
    """``validate/backmap_<state>.tsv``: the curves, energies and ranks of a state's figure.

    Parameters
    ----------
    path : path
    comparisons : dict
        As for :func:`state_figure`.
    """
    rows = []
    for source, item in comparisons.items():
        curves = {key: (d.centers, d.reference, d.model) for key, d in item.distributions.items()}
        r = 0.5 * (item.rdf_edges[1:] + item.rdf_edges[:-1])
        curves |= {f"rdf {key}": (r, *sides) for key, sides in item.rdfs.items()}
        for key, (x, *sides) in curves.items():
            for side, values in zip(("reference", "backmapped"), sides):
                rows += [[source, key, side, *row] for row in zip(x, *mean_and_error(values))]
        for side, values in item.energies.items():
            rows += [[source, "energy per molecule", side, k, v, 0.0] for k, v in enumerate(values)]
        for key, counts in item.ranks.items():
            rows += [[source, f"ranks {key}", "backmapped", k, n, n**0.5]
                     for k, n in enumerate(counts)]  # fmt: skip
    write_table(path, ["frames", "quantity", "side", "x", "y", "y_se"], rows)


def _draw_side(axis, x, rows, color):
    """Mean over frames with a band of two standard errors."""
    value, error = mean_and_error(rows)
    axis.plot(x, value, color=color, lw=1.1)
    axis.fill_between(x, value - 2 * error, value + 2 * error, color=color, alpha=0.25, lw=0)


def picture(path, topology, mapped, arrays):
    """One molecule and what is around it: atoms as balls and sticks, sites as discs over them.

    Parameters
    ----------
    path : path
    topology : mdtraj.Topology
    mapped : remcg.mapping.Sites
    arrays : dict
        From :func:`remcg.backmap.backmap`; the first structure is shown, if there is any.
    """
    from matplotlib.patches import Circle

    if not len(arrays["positions"]):
        with _figure(path, (5.6, 1.2)) as figure:
            figure.text(0.5, 0.4, "no frame could be backmapped", ha="center", color="0.5")
        return
    positions, box = arrays["positions"][0], arrays["box"][0] if "box" in arrays else None
    chosen, shifts, middle = _neighbourhood(mapped, positions, box)
    turn = _view()
    with _figure(path, (5.6, 5.9)) as figure:
        axis = figure.subplots()
        axis.set(aspect="equal", xticks=[], yticks=[])
        axis.axis("off")
        drawn = []
        for molecule, shift in zip(chosen, shifts):
            atoms = np.asarray(mapped.atoms[molecule])
            drawn += _sticks(topology, atoms, positions, shift - middle, turn)
            drawn += _balls(topology, atoms, positions, shift - middle, turn)
            drawn += _discs(mapped, molecule, positions, shift - middle, turn)
        low = min((depth for depth, *_ in drawn), default=0.0)
        high = max((depth for depth, *_ in drawn), default=1.0)
        for order, (depth, kind, shape, color) in enumerate(sorted(drawn, key=lambda d: d[0])):
            fog = 0.55 * (high - depth) / max(high - low, 1e-9)
            if kind == "stick":
                axis.plot(*shape, color=_pale("0.45", fog), lw=3.2, zorder=order,
                          solid_capstyle="round")  # fmt: skip
                continue
            x, y, radius = shape
            if kind == "site":
                axis.add_patch(Circle((x, y), radius, fc=color, ec=color, alpha=0.16, zorder=order))
                axis.plot(x, y, marker="+", ms=7, mew=1.6, color=_pale(color, fog), zorder=order)
                continue
            axis.add_patch(Circle((x, y), radius, fc=_pale(color, fog), ec=_pale("0.15", fog),
                                  lw=0.6, zorder=order))  # fmt: skip
            light = x - 0.3 * radius, y + 0.3 * radius
            axis.add_patch(Circle(light, 0.28 * radius, fc="white", ec="none", alpha=0.55,
                                  zorder=order))  # fmt: skip
        axis.autoscale_view()
        _picture_legend(figure, topology, mapped, chosen)


def _panels(comparisons):
    found = list(comparisons.values())
    keys = [list(dict.fromkeys(k for c in found for k in getattr(c, name)))
            for name in ("distributions", "rdfs", "ranks")]  # fmt: skip
    panels = [(_draw_distribution, key) for key in _shown(keys[0], found)]
    panels += [(_draw_rdf, key) for key in keys[1]]
    if any(c.energies for c in found):
        panels.append((_draw_energies, None))
    return panels + [(_draw_ranks, key) for key in keys[2][:MOST_RANKS]]


def _shown(keys, comparisons):
    """Of many distributions the dihedrals and the others, half each, that differ most."""

    def difference(key):
        sides = [c.numbers for c in comparisons if key in c.numbers.get("js_bits", {})]
        return max(n["js_bits"][key] / (n["noise_floor_js_bits"][key] or 1.0) for n in sides)

    ordered = sorted(keys, key=difference, reverse=True)
    turning = [key for key in ordered if key.startswith("dihedral")]
    others = [key for key in ordered if not key.startswith("dihedral")]
    n_others = max(MOST_DISTRIBUTIONS - len(turning), MOST_DISTRIBUTIONS // 2)
    chosen = others[:n_others]
    chosen += turning[: MOST_DISTRIBUTIONS - len(chosen)]
    kinds = ("bond", "angle", "dihedral")
    return sorted(chosen, key=lambda key: (kinds.index(key.split()[0]), keys.index(key)))


def _draw_distribution(axis, key, comparisons):
    lines, kind = [], key.split()[0]
    for source, item in comparisons.items():
        if key not in item.distributions:
            continue
        found = item.distributions[key]
        if not lines:
            axis.plot(found.centers, block_mean(found.reference)[0], color=REFERENCE_COLOR,
                      lw=2.6, alpha=0.35)  # fmt: skip
        _draw_side(axis, found.centers, found.model, SOURCES[source][1])
        js, floor = (item.numbers[n][key] for n in ("js_bits", "noise_floor_js_bits"))
        lines.append((source, f"{js / floor:.2f}" if floor else "-"))
    axis.set(xlabel=X_LABEL[kind], ylabel="probability", yticks=[], ylim=(0, None))
    _corner(axis, lines, "JS/floor")
    axis.set_title(key.split(" ", 1)[1], loc="left", fontsize=8)


def _draw_rdf(axis, key, comparisons):
    lines = []
    for source, item in comparisons.items():
        if key not in item.rdfs:
            continue
        reference, ours = item.rdfs[key]
        r = 0.5 * (item.rdf_edges[1:] + item.rdf_edges[:-1])
        if not lines:
            axis.plot(r, reference.mean(axis=0), color=REFERENCE_COLOR, lw=2.6, alpha=0.35)
        _draw_side(axis, r, ours, SOURCES[source][1])
        peak = item.numbers.get("rdf_peaks", {}).get(key)
        if peak:
            lines.append((source, f"{100 * peak['deviation']:+.1f}±{100 * peak['se']:.1f} %"))
    axis.set(xlabel="r (nm)", ylim=(0, None))
    _corner(axis, lines, "first peak")
    axis.set_title(f"g(r) {key}", loc="left", fontsize=8)


def _draw_energies(axis, _, comparisons):
    everything = np.concatenate([v for c in comparisons.values() for v in c.energies.values()])
    edges = np.linspace(everything.min(), everything.max() + 1e-9, 31)
    lines, first = [], True
    for source, item in comparisons.items():
        if first:
            axis.hist(item.energies["reference"], edges, density=True, color="0.8")
            first = False
        axis.hist(item.energies["ours"], edges, density=True, histtype="step", lw=1.3,
                  color=SOURCES[source][1])  # fmt: skip
        gap, error = (item.numbers[f"energy_gap_{name}"] for name in ("kJ_mol", "se"))
        lines.append((source, f"{gap:+.2f}±{error:.2f}"))
    _corner(axis, lines, "gap")
    axis.set(xlabel="energy per molecule (kJ/mol)", ylabel="probability", yticks=[])
    axis.set_title("potential energy", loc="left", fontsize=8)


def _draw_ranks(axis, key, comparisons):
    for source, item in comparisons.items():
        if key not in item.ranks:
            continue
        counts = item.ranks[key]
        n, expected = len(counts), counts.sum() / len(counts)
        spread = 2 * np.sqrt(expected * (1 - 1 / n))
        axis.axhspan((expected - spread) / expected, (expected + spread) / expected, color="0.85")
        axis.bar(np.arange(n), counts / expected, width=0.8, color=SOURCES[source][1], alpha=0.8)
        axis.set(xlabel="rank among the draws", xticks=np.arange(n), ylim=(0, None))
        axis.set_ylabel("number / expected")
        p = item.numbers["rank_p"][key]
        name = key.split(" ", 1)[1] if key.split()[0] in X_LABEL else key
        axis.set_title(f"{name}, p = {p:.2g}", loc="left", fontsize=8)
        return
    _nothing(axis, "no ranks")


def _corner(axis, lines, what):
    """Numbers of each source in its colour, above what is drawn."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + (0.12 + 0.13 * len(lines)) * (high - low))
    if lines:
        axis.text(0.98, 0.97, what, transform=axis.transAxes, ha="right", va="top", fontsize=6.5,
                  color="0.4")  # fmt: skip
    for k, (source, text) in enumerate(lines, start=1):
        axis.text(0.98, 0.97 - 0.1 * k, text, transform=axis.transAxes, ha="right", va="top",
                  fontsize=6.5, color=SOURCES[source][1])  # fmt: skip


def _legend(figure, title, comparisons):
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=REFERENCE_COLOR, lw=2.6, alpha=0.35, label="reference")]
    handles += [
        Line2D([], [], color=color, label=f"backmapped frames {text}")
        for source, (text, color) in SOURCES.items()
        if source in comparisons
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=title)


def _neighbourhood(mapped, positions, box):
    """Molecules near the one in the middle: their numbers, lattice shifts, and its centre."""
    centres = np.array([positions[atoms].mean(axis=0) for atoms in mapped.atoms])
    middle = centres.mean(axis=0) if box is None else 0.5 * many(np.asarray(box)[None])[0].sum(0)
    around = np.linalg.norm(centres - middle, axis=1)
    first = int(np.argmin(around))
    reach = min(SHOWN, np.inf if box is None else 0.45 * many(np.asarray(box)[None])[0].max())
    _, other, shift = close_pairs(centres[first : first + 1], centres, reach, box)
    return other, shift, centres[first]


def _view():
    """Rotation matrix of the direction of view."""
    a, b = np.radians(VIEW)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return about_x @ about_y


def radius_of(topology, atom):
    """Radius (nm) and element symbol of an atom as pictures draw it."""
    element = topology.atom(int(atom)).element
    symbol = element.symbol if element else "VS"
    return BALL * (0.11 if symbol == "H" else VDW_RADII.get(symbol, 0.17)), symbol


def _balls(topology, atoms, positions, shift, turn):
    found = []
    for atom in atoms:
        x, y, z = turn @ (positions[atom] + shift)
        radius, symbol = radius_of(topology, atom)
        if symbol != "VS":
            found.append((z, "ball", (x, y, radius), ELEMENT_COLORS.get(symbol, "#C060C0")))
    return found


def _sticks(topology, atoms, positions, shift, turn):
    inside, found = set(map(int, atoms)), []
    for a, b in bonds_of(topology):
        if int(a) in inside:
            p, q = (turn @ (positions[k] + shift) for k in (a, b))
            found.append((0.5 * (p[2] + q[2]) - 0.02, "stick", ((p[0], q[0]), (p[1], q[1])), None))
    return found


def _discs(mapped, molecule, positions, shift, turn):
    """Sites of a molecule."""
    mine = np.flatnonzero(mapped.molecule == molecule)
    found = []
    for site in mine:
        at = mapped.matrix[[site]] @ positions
        x, y, z = turn @ (np.asarray(at).ravel() + shift)
        color = SITE_COLORS[mapped.site_types[site] % len(SITE_COLORS)]
        found.append((z - 0.1, "site", (x, y, SITE_RADIUS), color))
    return found


def _pale(color, fog):
    from matplotlib.colors import to_rgb

    return tuple(np.array(to_rgb(color)) * (1 - fog) + fog)


def _picture_legend(figure, topology, mapped, chosen):
    from matplotlib.lines import Line2D

    atoms = {int(a) for molecule in chosen for a in mapped.atoms[molecule]}
    symbols = sorted({radius_of(topology, a)[1] for a in atoms} - {"VS"})
    types = sorted({int(mapped.site_types[s]) for m in chosen
                    for s in np.flatnonzero(mapped.molecule == m)})  # fmt: skip
    handles = [
        Line2D([], [], ls="", marker="o", ms=7, color=ELEMENT_COLORS.get(s, "#C060C0"), mec="0.15",
               label=s)
        for s in symbols
    ]  # fmt: skip
    handles += [
        Line2D([], [], ls="", marker="o", ms=14, color=SITE_COLORS[t % len(SITE_COLORS)], alpha=0.3,
               label=f"site {mapped.names[t]}")
        for t in types
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
