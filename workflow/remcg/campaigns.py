"""``remcg compare``: finished campaigns side by side, as one page that needs no network."""

import csv
import html
import io
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remcg import page
from remcg.errors import InputError
from remcg.io import read_json, write_text
from remcg.report import density_deviation, headline, plus_minus
from remcg.validate import write_table

NEEDED = ("summary.json", "provenance.json", "validate/potentials.tsv")
MOST_COLUMNS = 5  # of states in a figure
COLUMNS = {  # of the table of scores: key to heading
    "rdf_rmse": "rmse of g(r),<br>worst pair",
    "rdf_noise": "noise<br>floor",
    "density_percent": "density<br>deviation (%)",
    "pressure_bar": "pressure (bar)",
    "compressibility": "compressibility<br>(10⁻⁵/bar)",
    "structure_factor": "rmse of S(k),<br>worst pair",
    "angles_mbit": "neighbour angles<br>JS (mbit), worst",
    "penalty": "loss of transferability<br>(10⁻³ nats/site)",
    "speed_up": "speed-up<br>of diffusion",
}
SCALES = {"compressibility": 1e5, "angles_mbit": 1e3, "penalty": 1e3}


@dataclass(frozen=True)
class Finished:
    """What is compared of one campaign.

    Attributes
    ----------
    name : str
        Of its folder, with as much of the path as tells it from the others.
    summary : dict
        Content of ``summary.json``.
    settings : dict
        Key of the config, as ``rem.method``, to its value as text.
    rdfs : dict
        State to {pair: {column: ndarray}} of ``validate/rdf_<state>.tsv``.
    potentials : dict
        Pair to {column: ndarray} of ``validate/potentials.tsv``.
    """

    name: str
    summary: dict
    settings: dict
    rdfs: dict
    potentials: dict


def compare_campaigns(folders, path):
    """Write the comparison page; returns a text with a line per campaign.

    Parameters
    ----------
    folders : sequence of path
        ``results/<campaign>``, two or more, all finished.
    path : path
        Of the page.
    """
    campaigns = read(folders)
    rows = [row for campaign in campaigns for row in scores(campaign)]
    with tempfile.TemporaryDirectory() as folder:
        figures = _figures(Path(folder), campaigns, rows)
    body = "\n".join(
        [
            f"<h1>{' · '.join(html.escape(item.name) for item in campaigns)}</h1>",
            "<h2>Settings that differ</h2>",
            _settings_table(campaigns),
            "<h2>Scores</h2>",
            _score_table(campaigns, rows),
            "<p class=key>Each estimate with its standard error; the noise floor is the rmse that a"
            " perfect model would show. Bold: the best of those campaigns that have the state, and"
            " all that are within two standard errors of it.</p>",
            "<h2>Figures</h2>",
            *map(page.figure, figures),
        ]
    )
    write_text(path, page.page("comparison", body))
    return "\n".join(f"{item.name}: {headline(item.summary)}" for item in campaigns)


def read(folders):
    """The :class:`Finished` campaigns of two or more folders."""
    folders = [Path(folder) for folder in folders]
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            f"found {', '.join(map(str, folders))}; give two or more different folders"
            " results/<campaign>"
        )
    for folder in folders:
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder}: has no {', '.join(missing)}; give the folder results/<campaign> of a"
                " campaign that has run to its end"
            )
    return [_read(folder, name) for folder, name in zip(folders, _names(folders))]


def _names(folders):
    """The end of each path, as long as needed, without what all of them end with."""
    parts = [folder.resolve().parts for folder in folders]
    while len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-n:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _read(folder, name):
    return Finished(
        name,
        read_json(folder / "summary.json"),
        flat(read_json(folder / "provenance.json").get("config", {})),
        _rdfs(folder),
        _columns(folder / "validate" / "potentials.tsv"),
    )


def _rdfs(folder):
    """Curves of each state of the summary: from a file each, or from one for all of very many."""
    ids = [state["id"] for state in read_json(folder / "summary.json")["states"]]
    together = folder / "validate" / "rdf_states.tsv"
    if not together.is_file():
        paths = {state: folder / "validate" / f"rdf_{state}.tsv" for state in ids}
        return {state: _columns(path) for state, path in paths.items() if path.is_file()}
    found = {}
    with open(together, newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    for state in ids:
        own = [row[1:] for row in rows if row[0] == state]
        if own:
            found[state] = _by_first(header[1:], own)
    return found


def _columns(path):
    with open(path, newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    return _by_first(header, rows)


def _by_first(header, rows):
    """Values of the first column to the others as arrays; what is left empty is no number."""
    found = {}
    for row in rows:
        own = found.setdefault(row[0], {name: [] for name in header[1:]})
        for name, cell in zip(header[1:], row[1:]):
            own[name].append(float(cell) if cell else math.nan)
    return {
        key: {name: np.array(values) for name, values in own.items()
              if not np.isnan(values).any()}
        for key, own in found.items()
    }  # fmt: skip


def flat(settings, prefix=""):
    """Nested settings as text by dotted keys; states and terms by their names."""
    found = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for k, item in enumerate(value):
                found |= flat(item, f"{name}.{_label(item, k)}.")
        else:
            found[name] = _spoken(value)
    return found


def _label(item, k):
    sites = item.get("sites")
    label = "-".join(map(str, sites)) if isinstance(sites, list) else str(k + 1)
    return str(item.get("id") or f"{item.get('kind', '')} {label}".strip())


def _spoken(value):
    return value if isinstance(value, str) else json.dumps(value)


def differences(campaigns):
    """Settings that are not the same in all campaigns: key to a list of texts, "" where absent.

    A state or a term that a campaign does not have counts once; a key that another version did not
    know does not.
    """
    keys = list(dict.fromkeys(key for item in campaigns for key in item.settings))
    rows = {key: [item.settings.get(key, "") for item in campaigns] for key in keys}
    rows.pop("campaign", None)
    return {
        key: row
        for key, row in rows.items()
        if len(set(row) - {""}) > 1 or ("" in row and key.endswith((".use", ".kind")))
    }


def scores(campaign):
    """One dictionary per state: campaign, state, use, temperature_K, and estimates (value, se)."""
    rows = []
    for state in campaign.summary["states"]:
        row = {"campaign": campaign.name, "state": state["id"], "use": state["use"]}
        row["temperature_K"] = state["temperature_K"]
        rows.append(row | {key: pair for key, pair in _estimates(state).items() if pair})
    return rows


def _estimates(state):
    more = state.get("consistency", {})
    rdf = _worst(state.get("rdf", {}), "rmse")
    density, penalty = state.get("density_kg_m3", {}), state.get("penalty_nats_per_site")
    return {
        "rdf_rmse": rdf and (rdf["rmse"], rdf.get("rmse_se", 0.0)),
        "rdf_noise": rdf and (rdf.get("noise_floor_rmse", 0.0), 0.0),
        "density_percent": {"reference", "model"} <= density.keys() and density_deviation(density),
        "pressure_bar": _side(state.get("pressure_bar", {})),
        "compressibility": _side(state.get("compressibility_1_bar", {})),
        "structure_factor": _pair(_worst(more.get("structure_factor", {}), "rmse"), "rmse"),
        "angles_mbit": _pair(_worst(more.get("neighbor_angles", {}), "js_bits"), "js_bits"),
        "penalty": penalty and (penalty["value"], penalty["se"]),
        "speed_up": _pair(more.get("speed_up"), "value", "se"),
    }


def _worst(entries, key):
    return max(entries.values(), key=lambda entry: entry[key], default=None)


def _pair(entry, key, error=None):
    return entry and (entry[key], entry.get(error or f"{key}_se", 0.0))


def _side(entry):
    return (entry["model"], entry.get("model_se", 0.0)) if "model" in entry else None


def _settings_table(campaigns):
    rows = [
        ["iterations", "", *(str(item.summary["rem"]["iterations"]) for item in campaigns)],
        ["converged", "", *("yes" if c.summary["rem"]["converged"] else "no" for c in campaigns)],
        ["parameters", "", *(str(c.summary["rem"].get("n_params", "")) for c in campaigns)],
    ]
    steps = [str(item.summary["rem"].get("cg_steps_per_state", "")) for item in campaigns]
    rows.append(["steps of the loop per state", "", *steps])
    rows += [[key, "", *values] for key, values in differences(campaigns).items()]
    header = ["setting", "", *(html.escape(item.name) for item in campaigns)]
    text = _tsv(["setting", *(c.name for c in campaigns)], [[r[0], *r[2:]] for r in rows])
    cells = [[html.escape(cell) for cell in row] for row in rows]
    return page.table(header, cells) + f"<p>{page.download('settings.tsv', text)}</p>"


def _score_table(campaigns, rows):
    shown = [key for key in COLUMNS if any(key in row for row in rows)]
    order = list(dict.fromkeys(row["state"] for row in rows))
    cells = []
    for state in order:
        own = [row for row in rows if row["state"] == state]
        for row in own:
            first = [html.escape(row["state"]), html.escape(row["campaign"]), row["use"]]
            cells.append([*first, *(_cell(row, own, key) for key in shown)])
    header = ["state", "campaign", "use", *(COLUMNS[key] for key in shown)]
    names = [name for key in shown for name in (key, f"{key}_se")]
    table = [
        [row["campaign"], row["state"], row["use"], f"{row['temperature_K']:g}",
         *(f"{row[key][i]:.6g}" if key in row else "" for key in shown for i in (0, 1))]
        for row in rows
    ]  # fmt: skip
    text = _tsv(["campaign", "state", "use", "temperature_K", *names], table)
    return page.table(header, cells) + f"<p>{page.download('scores.tsv', text)}</p>"


LESS_IS_BETTER = ("rdf_rmse", "density_percent", "structure_factor", "angles_mbit", "penalty")


def _loss(pair, key):
    """How far a score is from the best; a penalty below zero is one without a loss."""
    return max(pair[0], 0.0) if key == "penalty" else abs(pair[0])


def _cell(row, own, key):
    if key not in row:
        return ""
    scale = SCALES.get(key, 1.0)
    value, error = (scale * float(x) for x in row[key])
    text = plus_minus(value, error)
    if key in LESS_IS_BETTER and len(own) > 1:
        best = min((other[key] for other in own if key in other), key=lambda pair: _loss(pair, key))
        noise = 2.0 * math.hypot(row[key][1], best[1])
        if _loss(row[key], key) <= _loss(best, key) + noise:
            return f"<b>{text}</b>"
    return text


def _tsv(header, rows):
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def _figures(folder, campaigns, rows):
    from remcg import plot_campaigns

    states = shared_states(campaigns)
    drawn = []
    plot_campaigns.score_figure(folder / "scores.png", campaigns, rows)
    drawn.append(("scores", SCORES, ()))
    if states:
        plot_campaigns.rdf_figure(folder / "rdf.png", campaigns, states[:MOST_COLUMNS])
        drawn.append(("rdf", RDFS, (("rdf.tsv", _rdf_text(folder, campaigns)),)))
    if _shared_pairs(campaigns):
        plot_campaigns.potential_figure(folder / "potentials.png", campaigns)
        text = _potential_text(folder, campaigns)
        drawn.append(("potentials", POTENTIALS, (("potentials.tsv", text),)))
    return [
        page.Figure((folder / f"{name}.png").read_bytes(), caption, tables, name)
        for name, caption, tables in drawn
    ]


def shared_states(campaigns):
    """States that at least two campaigns have, in the order of temperature."""
    temperatures = {s["id"]: s["temperature_K"] for c in campaigns for s in c.summary["states"]}
    often = [name for name in temperatures if sum(name in c.rdfs for c in campaigns) > 1]
    return sorted(often, key=temperatures.get)


def _shared_pairs(campaigns):
    return [name for name in campaigns[0].potentials
            if any(name in other.potentials for other in campaigns[1:])]  # fmt: skip


def _rdf_text(folder, campaigns):
    rows = [
        [item.name, state, pair, *map(float, values)]
        for item in campaigns for state, pairs in item.rdfs.items()
        for pair, own in pairs.items()
        for values in zip(*(own[key] for key in
                            ("r_nm", "g_reference", "g_reference_se", "g_model", "g_model_se")))
    ]  # fmt: skip
    header = ["campaign", "state", "pair", "r_nm", "g_reference", "g_reference_se"]
    write_table(folder / "rdf.tsv", [*header, "g_model", "g_model_se"], rows)
    return (folder / "rdf.tsv").read_text()


def _potential_text(folder, campaigns):
    rows = [
        [item.name, pair, key.removeprefix("U_").removesuffix("K"), *map(float, values)]
        for item in campaigns for pair, own in item.potentials.items()
        for key in own if key.startswith("U_") and key.endswith("K")
        for values in zip(own["r_nm"], own[key], own.get(f"{key}_se", np.zeros(len(own[key]))))
    ]  # fmt: skip
    header = ["campaign", "pair", "temperature_K", "r_nm", "U_kJ_mol", "U_se_kJ_mol"]
    write_table(folder / "potentials.tsv", header, rows)
    return (folder / "potentials.tsv").read_text()


SCORES = (
    "**Scores over temperature.** Root mean square error of g(r) of the worst pair with its noise"
    " floor (bars), deviation of the density, and loss of transferability, each with two standard"
    " errors; open: states that a campaign was not trained on."
)
RDFS = (
    "**Radial distribution functions.** Reference (grey; of the first campaign that has the state)"
    " and the models of all campaigns above, their deviations from their own references below, with"
    " bands of two standard errors of both sides."
)
POTENTIALS = (
    "**Potentials.** Pair potentials of all campaigns at the temperature that most of them share,"
    " with bands of two standard errors. The volume term is not part of these curves, so that"
    " potentials with different volume terms may look different and act alike."
)
