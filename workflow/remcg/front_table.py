"""The tables of a report that say of every state what was found and whether it holds."""

import html

from remcg import page
from remcg.report import (
    best_energy_gap,
    density_deviation,
    plus_minus,
    value_of,
    worst_divergence,
    worst_peak,
    worst_ranks,
)
from remcg.terminal import MARKS

MOST_LINES = 6  # of a cell; more are in the table of states
RANK = ["pass", "within noise", "fails"]
REFERENCE = "reference"  # in place of the status of a line: what stands above it is compared with


def states_table(summary, checks):
    """One row per state; of the columns those that any state fills.

    Parameters
    ----------
    summary : dict
    checks : list of remcg.report.Check

    Returns
    -------
    str
        HTML.
    """
    rows = []
    for state in summary["states"]:
        found = _Found(state, checks)
        rows.append([cell(found) for _, cell in COLUMNS])
    return _table(COLUMNS, rows)


def _table(columns, rows):
    """HTML of rows of cells, each a list of lines; without columns that have none."""
    shown = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    body = [[marked(row[k]) for k in shown] for row in rows]
    return page.table([columns[k][0] for k in shown], body)


def backmap_table(summary, checks):
    """Backmapped structures of all states; empty where there are none."""
    rows = []
    for state in summary["states"]:
        entry = summary.get("backmap", {}).get(state["id"], {})
        for part, item in (("model", entry), ("mapped reference", entry.get("mapped", {}))):
            if "n_structures" in item:
                found = _Backmapped(state["id"], part, item, checks)
                rows.append([cell(found) for _, cell in BACKMAP_COLUMNS])
    if not rows:
        return ""
    return (
        f"{_table(BACKMAP_COLUMNS, rows)}"
        "<p class=key>Only frames of the mapped reference test the "
        "sampler alone and have limits for their statistics; frames of the model also show what "
        "the model has wrong. Energy gap: of the structures to the reference, or of chains from "
        "templates to chains from the reference's own atoms, whichever is known better. Draws: "
        "from the posterior where these chains agree within three standard errors, else annealed. "
        "What is wrong with a frame: backmap/&lt;state&gt;.json.</p>"
    )


def marked(lines):
    """A cell of :func:`remcg.page.table` from lines of text, each with the status of its check.

    Parameters
    ----------
    lines : sequence of (str, str or None)
        Text (HTML); "pass", "within noise", "fails", REFERENCE or None.

    Returns
    -------
    (str, str)
        HTML, and the class of the cell: that of its worst line.
    """
    known = [status for _, status in lines if status in RANK]
    worst = max(known, key=RANK.index, default="")
    return "<br>".join(_line(*line) for line in lines), worst.split(" ")[0]


def _line(text, status):
    if status == REFERENCE:
        return f"<small>{text}</small>"
    if status is None or not text:
        return text
    return f'{text} <i class="{status.split(" ")[0]}">{MARKS[status]}</i>'


class _Found:
    """One state, and the status of its checks."""

    def __init__(self, state, checks):
        self.state = state
        own = [check for check in checks if check.subject == state["id"]]
        self.statuses = [check.status for check in own]
        self.by_part = {(check.quantity, check.part): check.status for check in own}
        self.rdfs = _most_telling(state.get("rdf", {}), self._rdf_worse)

    def status(self, quantity, part=""):
        """Of a check, or None."""
        return self.by_part.get((quantity, part))

    def _rdf_worse(self, name, rdf):
        found = [self.status(quantity, name) for quantity in ("RDF rmse", "RDF max")]
        worst = max(RANK.index(status or "pass") for status in found)
        return worst, rdf["rmse"] / max(rdf.get("noise_floor_rmse", 0.0), 1e-9)


def _most_telling(entries, worse):
    """All of a few entries, of many the worst, in order."""
    chosen = sorted(entries, key=lambda name: worse(name, entries[name]), reverse=True)
    return {name: entry for name, entry in entries.items() if name in chosen[:MOST_LINES]}


def _and_more(lines, number):
    return [*lines, (f"and {number} more", REFERENCE)] if number else lines


def _name(found):
    state = found.state
    use = f"{html.escape(state['use'])}, {state['temperature_K']:g} K"
    return [(html.escape(state["id"]), None), (use, REFERENCE)]


def _rmse(found):
    rows, several = [], len(found.state.get("rdf", {})) > 1
    for name, rdf in found.rdfs.items():
        text = plus_minus(rdf["rmse"], rdf.get("rmse_se"))
        mark = f"{html.escape(name)} " if several else ""
        rows.append((mark + text, found.status("RDF rmse", name)))
    return _and_more(rows, len(found.state.get("rdf", {})) - len(found.rdfs))


def _floor(found):
    return [(f"{rdf.get('noise_floor_rmse', 0.0):.4f}", None) for rdf in found.rdfs.values()]


def _largest(found):
    return [
        (f"{rdf['max']:.3f}", found.status("RDF max", name)) for name, rdf in found.rdfs.items()
    ]


def _bonded(found):
    ratios = {
        name: entry["js_bits"] / entry["noise_floor_js_bits"]
        for name, entry in found.state.get("bonded", {}).items()
        if entry.get("noise_floor_js_bits")
    }
    shown = _most_telling(ratios, lambda name, ratio: ratio)
    rows = [(f"{html.escape(name)} {ratio:.2f}", found.status("bonded JS", name))
            for name, ratio in shown.items()]  # fmt: skip
    return _and_more(rows, len(ratios) - len(shown))


def _both(entry, status=None, scale=1.0, reference="reference"):
    """The model's number over that of the reference."""
    sides = ("model", status), (reference, REFERENCE)
    return [(value_of(entry, side, scale), mark) for side, mark in sides if side in entry]


def _density(found):
    return _both(found.state.get("density_kg_m3", {}), found.status("density SE"))


def _deviation(found):
    density = found.state.get("density_kg_m3", {})
    if not {"reference", "model"} <= density.keys():
        return []
    return [(plus_minus(*density_deviation(density)), found.status("density deviation"))]


def _compressibility(found):
    kappa = found.state.get("compressibility_1_bar", {})
    return _both(kappa, found.status("compressibility deviation"), 1e5)


def _pressure(found):
    pressure = found.state.get("pressure_bar", {})
    return _both(pressure, found.status("pressure"), reference="target")


def _counts(found):
    numbers = {status: found.statuses.count(status) for status in RANK}
    return [(str(number), status) for status, number in numbers.items() if number]


COLUMNS = (
    ("state", _name),
    ("rmse of g(r)", _rmse),
    ("noise<br>floor", _floor),
    ("max of<br>g(r)", _largest),
    ("bonded JS<br>(floors)", _bonded),
    ("density<br>(kg/m³)<br><small>reference</small>", _density),
    ("deviation<br>(%)", _deviation),
    ("compressibility<br>(10⁻⁵/bar)<br><small>reference</small>", _compressibility),
    ("pressure<br>(bar)<br><small>set</small>", _pressure),
    ("all<br>checks", _counts),
)


class _Backmapped:
    """Structures of one state: of its prediction or of its mapped reference."""

    def __init__(self, name, part, item, checks):
        self.name, self.part, self.item = name, part, item
        mapped, self.by_name = part != "model", {}
        for check in checks:
            of_mapped = check.part.startswith("mapped") or check.quantity in POSTERIOR
            if check.subject == name and of_mapped == mapped:
                self.by_name.setdefault(check.quantity, []).append(check.status)

    def status(self, quantity):
        """The worst of a kind of checks, or None."""
        return max(self.by_name.get(quantity, []), key=RANK.index, default=None)


POSTERIOR = ("backmap JS", "backmap peak", "backmap energy gap", "backmap ranks")


def _defects(found):
    if "defective_structures" not in found.item:
        return []
    number = found.item["defective_structures"] + found.item.get("failed_frames", 0)
    return [(str(number), found.status("backmap defects"))]


def _worst_js(found):
    js = worst_divergence(found.item)
    if js is None:
        return []
    status = found.status("backmap JS")
    return [(f"{js[0]:.2f}", status), (html.escape(js[1]), REFERENCE)]


def _worst_peak(found):
    peak = worst_peak(found.item)
    if peak is None:
        return []
    name, row = peak
    text = plus_minus(100 * row["deviation"], 100 * row["se"])
    return [(text, found.status("backmap peak")), (html.escape(name), REFERENCE)]


def _gap(found):
    gap = best_energy_gap(found.item)
    return [(plus_minus(*gap), found.status("backmap energy gap"))] if gap else []


def _ranks(found):
    ranks = worst_ranks(found.item)
    if ranks is None:
        return []
    name, p = ranks
    return [(f"{p:.2g}", found.status("backmap ranks")), (html.escape(name), REFERENCE)]


def _residual(found):
    if "max_residual_nm" not in found.item:
        return []
    return [(f"{found.item['max_residual_nm']:.1e}", found.status("backmapping"))]


def _draws(found):
    if "is_posterior" not in found.item:
        return []
    return [("posterior" if found.item["is_posterior"] else "annealed", None)]


BACKMAP_COLUMNS = (
    ("state", lambda found: [(html.escape(found.name), None)]),
    ("frames of", lambda found: [(found.part, None)]),
    ("frames,<br>structures",
     lambda found: [(f"{found.item['n_frames']}, {found.item['n_structures']}", None)]),
    ("residual (nm)", _residual),
    ("defects", _defects),
    ("JS / floor,<br>worst", _worst_js),
    ("first peak (%),<br>worst", _worst_peak),
    ("energy gap (kJ/mol<br>per molecule)", _gap),
    ("ranks, p of<br>the worst", _ranks),
    ("draws", _draws),
)  # fmt: skip
