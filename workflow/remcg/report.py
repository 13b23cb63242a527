"""Summary, front page and verdict of a campaign."""

import html
import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

from remcg import page
from remcg.io import write_text
from remcg.model import TEMPERATURE_ORDERS

LIMITS = {  # the names of validate.limits in the config; densities as fractions, JS in noise floors
    "rdf_rmse_train": 0.010,
    "rdf_rmse_test": 0.012,
    "rdf_floors_train": 1.5,
    "rdf_floors_test": 2.0,
    "rdf_max_train": 0.05,
    "rdf_max_test": 0.06,
    "density_train": 0.004,
    "density_test": 0.006,
    "density_se": 0.0015,
    "compressibility": 0.15,
    "pressure": 20.0,
    "isotherm": 60.0,
    "expansion": 0.2,
    "bonded_js": 2.0,
    "chain_mean": 0.02,
    "chain_js": 0.1,
    "structure_factor": 0.05,
    "neighbor_angles_js": 0.02,
    "coordination": 0.05,
    "coordination_js": 0.05,
    "penalty_per_site": 0.002,
    "symmetry": 1e-6,
    "backmap_residual": 1e-6,
    "backmap_defects": 0.0,
    "backmap_js": 2.0,
    "backmap_peak": 0.02,
    "backmap_energy": 0.5,
    "backmap_ranks": 0.001,
}
UNCHECKED = (None, "none")
SIGNIFICANT = 3.0  # standard errors
NEGLIGIBLE = 1e-9  # of a value: its error is one of rounding
MOST_FRAMES = 8  # that a check names
MISFIT, MOST_MISFITS = 5.0, 4  # noise floors from which a distribution is named on the front page
MOST_LISTED = 10  # checks at the head of the page; more of them unfold

WORKFLOW = "workflow.html"  # Snakemake's report, beside the front page

REM_KEYS = ("converged", "iterations", "chi2_per_dof", "cg_steps_per_state", "n_params")
STATE_KEYS = (
    "id",
    "use",
    "temperature_K",
    "pressure_bar",
    "rdf",
    "bonded",
    "chains",
    "density_kg_m3",
    "compressibility_1_bar",
    "penalty_nats_per_site",
    "consistency",
)
BACKMAP_KEYS = (
    "n_frames",
    "n_structures",
    "n_eff_draws",
    "inefficiency_ps",
    "log_weight_sd",
    "failed_frames",
    "defective_structures",
    "offending_frames",
    "unconverged_minima",
    "unturned_molecules",
    "max_residual_nm",
    "max_rigid_error_nm",
    "reference_rigid_error_nm",
    "clashes",
    "inversions",
    "cis_trans",
    "piercings",
    "energy_gap_kJ_mol",
    "energy_gap_se",
    "two_sided_gap_kJ_mol",
    "two_sided_gap_se",
    "annealed_frames",
    "is_posterior",
    "js_bits",
    "noise_floor_js_bits",
    "chance_js_bits",
    "rdf_peaks",
    "rank_p",
)


@dataclass(frozen=True)
class Check:
    """One number against its limit.

    Attributes
    ----------
    subject : str
        Id of the state, or "rem".
    quantity, part : str
        Part is the pair of an RDF or the site types of a bonded coordinate, else empty.
    value, limit : float
    error : float or None
        Standard error of ``value``.
    unit : str
    status : str
        "pass"; "within noise": beyond the limit, but not significantly different from a perfect
        result; "fails".
    """

    subject: str
    quantity: str
    part: str
    value: float
    limit: float
    error: float | None
    unit: str
    status: str

    @property
    def name(self):
        """Quantity and part."""
        return f"{self.quantity} {self.part}".strip()

    def __str__(self):
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{self.subject}: {self.name} {plus_minus(self.value, self.error)}{unit}, "
            f"limit {self.limit:.3g}{unit}: {self.status}"
        )


def summary(campaign, version, seed, rem, states, backmap, wall_s=None, orchestration=None):
    """Content of ``summary.json``: the contract's keys, without those that have no finite value.

    Parameters
    ----------
    campaign, version : str
    seed : int
    rem : dict
        From :func:`rem_summary`.
    states : list of dict
        As in ``validate/states.json``.
    backmap : dict
        Per state the numbers of the backmapped prediction, with those of the backmapped reference
        under "mapped"; other keys are passed over.
    wall_s : dict, optional
        Seconds per stage, and their "total".
    orchestration : float, optional
        From :func:`orchestration_fraction`.
    """
    return finite(
        {
            "campaign": campaign,
            "version": version,
            "seed": int(seed),
            "rem": _chosen(rem, REM_KEYS),
            "states": [_chosen(state, STATE_KEYS) for state in states],
            "backmap": {name: _backmap_section(item) for name, item in backmap.items()},
            "orchestration_fraction": orchestration,
            "wall_s": wall_s,
        }
    )


def rem_summary(updates, n_params, steps, equilibration):
    """The section ``rem`` of the summary.

    Parameters
    ----------
    updates : list of dict
        The ``update.json`` of all iterations, oldest first.
    n_params : int
    steps, equilibration : int
        CG steps of one state in one iteration, over all replicas; states and iterations that had
        another share of the steps are counted with it.
    """
    last = updates[-1] if updates else {}
    shares = [update.get("sampled", {}).get("effort", {"": 1.0}).values() for update in updates]
    return {
        "converged": last.get("verdict") == "converged",
        "iterations": len(updates),
        "chi2_per_dof": last.get("chi2_per_dof"),
        "cg_steps_per_state": round(
            sum(equilibration + steps * sum(share) / len(share) for share in shares)
        ),
        "n_params": n_params,
    }


def finite(item):
    """The same content without None, NaN, infinities and what becomes empty without them."""
    if isinstance(item, dict):
        kept = {key: finite(value) for key, value in item.items()}
        return {key: value for key, value in kept.items() if value is not None} or None
    if isinstance(item, list | tuple):
        return [value for value in map(finite, item) if value is not None]
    if hasattr(item, "tolist"):
        return finite(item.tolist())
    if isinstance(item, float) and not math.isfinite(item):
        return None
    return item


def orchestration_fraction(busy_core_seconds, cores, wall):
    """1 - busy core-seconds / (cores x wall seconds): the share that is not computing."""
    return max(0.0, 1.0 - busy_core_seconds / (cores * wall))


def checks(summary, limits=None):
    """Every number of a summary that has a limit, as a list of Check.

    Parameters
    ----------
    summary : dict
    limits : dict or remcg.config.Limits, optional
        Replaces entries of ``LIMITS``; None or "none": the quantity is not checked.
    """
    limits = {**LIMITS, **_mapping(limits)}
    limits = {key: math.inf if value in UNCHECKED else value for key, value in limits.items()}
    converged = bool(summary["rem"]["converged"])
    status = "pass" if converged else "fails"
    found = [Check("rem", "convergence (1 = yes)", "", float(converged), 1.0, None, "", status)]
    for state in summary["states"]:
        found += _rdf_checks(state, limits) + _bonded_checks(state, limits)
        found += _chain_checks(state, limits) + _density_checks(state, limits)
        found += _thermodynamic_checks(state, limits) + _consistency_checks(state, limits)
        found += _backmap_checks(
            state["id"], summary.get("backmap", {}).get(state["id"], {}), limits
        )
    return [check for check in found if check.limit < math.inf]


def table(summary):
    """Header and rows of the table at the end of a run, texts, one row per state."""
    header = ["state", "use", "RDF rmse", "max", "density (kg/m3)", "off (%)", "pressure (bar)"]
    return header, [_table_row(state) for state in summary["states"]]


def closing(summary):
    """Sentences on the optimisation and on the time that the run took."""
    said = [f"{summary['campaign']}: {headline(summary)}", _timing(summary)]
    return [line for line in said if line]


def headline(summary):
    """One sentence on the optimisation."""
    rem = summary["rem"]
    course = "Converged after" if rem["converged"] else "NOT converged within"
    chi2 = f" (χ² per degree of freedom {rem['chi2_per_dof']:.2f})" if "chi2_per_dof" in rem else ""
    plural = "" if rem["iterations"] == 1 else "s"
    return f"{course} {rem['iterations']} iteration{plural}{chi2}"


def plus_minus(value, error=None):
    """A number with its standard error, rounded to two digits of the error.

    Errors of arithmetic alone are left out.
    """
    if not error or error < NEGLIGIBLE * abs(value):
        return f"{value:.3g}"
    digits = 1 - math.floor(math.log10(error))
    if digits > 6:
        return f"{value:.3g} ± {error:.1g}"
    return f"{value:.{max(digits, 0)}f} ± {error:.{max(digits, 0)}f}"


def value_of(entry, side, scale=1.0):
    """The number of a side and its standard error as text, empty where there is none."""
    if side not in entry:
        return ""
    return plus_minus(entry[side] * scale, entry.get(f"{side}_se", 0.0) * scale)


def front_page(summary, model, checks, figures=(), files=(), scene=""):
    """Self-contained HTML page: what was built, whether it holds, where not, and how sure.

    Parameters
    ----------
    summary : dict
    model : Model
    checks : list of Check
    figures : sequence of remcg.page.Figure
    files : sequence of str
        Paths to name at the end.
    scene : str
        HTML of a figure that can be turned, see :mod:`remcg.viewer`.
    """
    from remcg import front_table  # which needs this module
    from remcg.viewer import SCRIPT

    before = {
        "Simpler methods": _baseline_table(summary),
        "Thermodynamics": _free_energy_table(summary["states"]),
        "Dynamics": _dynamics_note(summary),
        "Backmapping": front_table.backmap_table(summary, checks),
    }
    place = "Backmapping" if before["Backmapping"] else "Structure"
    before[place] = before.get(place, "") + scene
    links, sections = page.sections(figures, before)
    said = f"remcg {summary['version']}, seed {summary['seed']}", _timing(summary)
    parts = [
        f"<h1>{html.escape(summary['campaign'])}</h1>",
        f"<p class=lead>{html.escape(_built(summary, model))}</p>",
        _banner(summary, checks),
        front_table.states_table(summary, checks),
        _key(checks),
        _misfits(summary),
        links,
        sections,
        _file_list(files),
        f"<footer>{html.escape('; '.join(filter(None, said)))}. "
        "Jobs, code and run times, in the same folder: "
        f'<a href="{WORKFLOW}">{WORKFLOW}</a>.</footer>',
    ]
    return page.page(summary["campaign"], "\n".join(parts), SCRIPT if scene else "")


def wall_seconds(folder):
    """Seconds of all jobs per stage from Snakemake's benchmark files ``<folder>/<stage>/*.tsv``."""
    stages = {}
    for path in sorted(Path(folder).glob("*/**/*.tsv")):
        header, *rows = (line.split("\t") for line in path.read_text().splitlines() if line)
        column = header.index("s")
        stage = path.relative_to(folder).parts[0]
        stages[stage] = stages.get(stage, 0.0) + sum(float(row[column]) for row in rows)
    return stages


def busy_core_seconds(folder, since=0.0):
    """Sum of the lines ``busy_core_seconds <number>`` in the logs written after ``since``.

    Parameters
    ----------
    folder : path
        ``logs/<campaign>``.
    since : float
        Unix time at which the run began.
    """
    logs = [path for path in Path(folder).rglob("*.log") if path.stat().st_mtime >= since]
    return sum(
        float(number)
        for path in logs
        for number in re.findall(
            r"^busy_core_seconds (\S+)", path.read_text(errors="replace"), re.M
        )
    )


def timing(benchmarks, logs, started=None, cores=1, now=None):
    """Wall seconds per stage and the orchestration fraction of a run.

    Parameters
    ----------
    benchmarks, logs : path
        Folders of the campaign.
    started : float, optional
        Unix time at which the run began; without it neither total nor fraction is known.
    cores : int
    now : float, optional
        Unix time.

    Returns
    -------
    (dict, float or None)
        Job seconds per stage, summed over jobs (also of the earlier runs of a resumed campaign),
        with the wall seconds of this run under "total"; the fraction.
    """
    wall_s = wall_seconds(benchmarks)
    if started is None:
        return wall_s, None
    wall = max((time.time() if now is None else now) - started, 1e-3)
    fraction = orchestration_fraction(busy_core_seconds(logs, started), cores, wall)
    return {**wall_s, "total": wall}, fraction


def write_front_page(path, summary, model, limits=None, figures=(), files=(), scene=""):
    """Write the front page; ``figures`` are pairs of paths, PNG and caption (.rst)."""
    states = [state["id"] for state in summary["states"]]
    loaded = [page.read_figure(png, rst, states) for png, rst in figures]
    write_text(path, front_page(summary, model, checks(summary, limits), loaded, files, scene))


def with_captions(figures, folder):
    """Pairs of PNG and caption; figures of states, backmap_T300.png, share backmap_state.rst."""
    found = []
    for path in map(Path, figures):
        caption = Path(folder, f"{path.stem}.rst")
        found.append((path, caption if caption.exists() else Path(folder, "backmap_state.rst")))
    return found


def write_verdict(path, checks):
    """``verdict.tsv``: one line per check."""
    lines = ["subject\tquantity\tvalue\tse\tlimit\tunit\tstatus"]
    for check in checks:
        error = "" if check.error is None else f"{check.error:.4g}"
        cells = [check.subject, check.name, f"{check.value:.6g}", error, f"{check.limit:.4g}"]
        lines.append("\t".join([*cells, check.unit, check.status]))
    write_text(path, "\n".join(lines) + "\n")


def read_backmap(paths, mapped=()):
    """Backmapping numbers of all states from JSON files named ``<state>.json``.

    Those of mapped references, if there are any, go under "mapped".
    """
    found = {Path(path).stem: json.loads(Path(path).read_text()) for path in paths}
    for path in mapped:
        found.setdefault(Path(path).stem, {})["mapped"] = json.loads(Path(path).read_text())
    return found


def worst_divergence(entry):
    """Largest divergence of backmapped coordinates: (ratio, name, chance) in floors, or None.

    One that exact draws would hardly reach by chance goes before others.
    """
    floors, chance = entry.get("noise_floor_js_bits", {}), entry.get("chance_js_bits", {})
    found = [
        (js / floors[key], key, chance.get(key, 0.0) / floors[key])
        for key, js in entry.get("js_bits", {}).items()
        if floors.get(key)
    ]
    return max(found, key=lambda item: (item[0] > item[2], item[0]), default=None)


def worst_peak(entry):
    """First peak of an atomic RDF that is least within its limit: (name, numbers), or None.

    One that deviates significantly goes before others.
    """

    def order(item):
        deviation = abs(item[1]["deviation"])
        return deviation > SIGNIFICANT * item[1]["se"], deviation

    return max(entry.get("rdf_peaks", {}).items(), key=order, default=None)


def best_energy_gap(entry):
    """Energy of draws above that of the reference and its SE, kJ/mol per molecule, or None.

    Single structures measure it, and so do the means of chains from both sides: the one with the
    smaller error counts.
    """
    names = ("energy_gap_kJ_mol", "energy_gap_se"), ("two_sided_gap_kJ_mol", "two_sided_gap_se")
    found = [tuple(entry[name] for name in pair) for pair in names if pair[0] in entry]
    return min(found, key=lambda item: item[1], default=None)


def worst_ranks(entry):
    """Coordinate whose ranks are least uniform, and its p-value among so many, or None."""
    found = entry.get("rank_p", {})
    if not found:
        return None
    name = min(found, key=found.get)
    return name, min(1.0, found[name] * len(found))


def _backmap_section(item):
    chosen = _chosen(item, BACKMAP_KEYS)
    return (
        {**chosen, "mapped": _chosen(item["mapped"], BACKMAP_KEYS)} if "mapped" in item else chosen
    )


def _backmap_checks(name, entry, limits):
    """Gates of the backmapped prediction, and of the mapped reference with its statistics."""
    found = []
    for part, item in (("", entry), ("mapped", entry.get("mapped", {}))):
        if "max_residual_nm" in item:
            residual, limit = item["max_residual_nm"], limits["backmap_residual"]
            status = _status(residual, limit, 0.0)
            found.append(Check(name, "backmapping", part, residual, limit, None, "nm", status))
        if "defective_structures" in item:
            bad = item["defective_structures"] + item.get("failed_frames", 0)
            limit = limits["backmap_defects"]
            status = _status(bad, limit, 0.0)
            where = ", ".join(filter(None, (part, _frames_of(item))))
            found.append(Check(name, "backmap defects", where, bad, limit, None, "", status))
    return found + _posterior_checks(name, entry.get("mapped", {}), limits)


def _frames_of(item):
    """Which frames have no structure or one with a defect: "frames 3, 7", the first few."""
    frames = item.get("offending_frames", [])
    shown = [*map(str, frames[:MOST_FRAMES]), *["..."][: len(frames) - MOST_FRAMES]]
    return f"frames {', '.join(shown)}" if frames else ""


def _posterior_checks(name, item, limits):
    """Whether draws over mapped references have the distributions of the references."""
    found = []
    if (worst := worst_divergence(item)) is not None:
        ratio, coordinate, chance = worst
        status = _status(ratio, limits["backmap_js"], chance)
        found.append(
            Check(
                name, "backmap JS", coordinate, ratio, limits["backmap_js"], None, "floors", status
            )
        )
    if (worst := worst_peak(item)) is not None:
        pair, peak = worst
        value, error, limit = 100 * abs(peak["deviation"]), 100 * peak["se"], limits["backmap_peak"]
        status = _status(value, 100 * limit, SIGNIFICANT * error)
        found.append(Check(name, "backmap peak", pair, value, 100 * limit, error, "%", status))
    if (best := best_energy_gap(item)) is not None:
        gap, error = best
        limit = limits["backmap_energy"]
        status = _status(abs(gap), limit, SIGNIFICANT * error)
        found.append(Check(name, "backmap energy gap", "", gap, limit, error, "kJ/mol", status))
    if (worst := worst_ranks(item)) is not None:
        coordinate, p = worst
        limit = limits["backmap_ranks"]
        status = "pass" if p >= limit else "fails"
        found.append(Check(name, "backmap ranks", coordinate, p, limit, None, "", status))
    return found


def _chosen(item, keys):
    return {key: item[key] for key in keys if key in item}


def _mapping(limits):
    if limits is None:
        return {}
    return limits if isinstance(limits, dict) else vars(limits)


def _rdf_checks(state, limits):
    name, use = state["id"], state["use"]
    max_limit, floors = limits[f"rdf_max_{use}"], limits[f"rdf_floors_{use}"]
    found = []
    for pair, rdf in state.get("rdf", {}).items():
        error = rdf.get("rmse_se")
        floor = rdf.get("noise_floor_rmse", 0.0)
        limit = max(limits[f"rdf_rmse_{use}"], floors * floor)
        status = _status(rdf["rmse"], limit, floor + SIGNIFICANT * (error or 0.0))
        found.append(Check(name, "RDF rmse", pair, rdf["rmse"], limit, error, "", status))
        error = rdf.get("max_se")
        status = _status(rdf["max"], max_limit, SIGNIFICANT * (error or 0.0))
        found.append(Check(name, "RDF max", pair, rdf["max"], max_limit, error, "", status))
    return found


def _bonded_checks(state, limits):
    """Divergences in units of those of the reference's halves."""
    found, limit = [], limits["bonded_js"]
    for name, entry in state.get("bonded", {}).items():
        if entry.get("noise_floor_js_bits"):
            ratio = entry["js_bits"] / entry["noise_floor_js_bits"]
            status = _status(ratio, limit, 0.0)
            found.append(
                Check(state["id"], "bonded JS", name, ratio, limit, None, "floors", status)
            )
    return found


def _chain_checks(state, limits):
    """Means and distributions of the size of whole molecules."""
    found = []
    for name, shapes in state.get("chains", {}).items():
        for kind, row in shapes.items():
            part = f"{_SHAPES.get(kind, kind)} {name}"
            found += _ratio_check(state["id"], "chain mean", part, row, limits["chain_mean"])
            if "js_bits" in row:
                error = row.get("js_bits_se")
                noise = row.get("noise_floor_js_bits", 0.0) + SIGNIFICANT * (error or 0.0)
                value, limit = row["js_bits"], limits["chain_js"]
                status = _status(value, limit, noise)
                found.append(
                    Check(state["id"], "chain JS", part, value, limit, error, "bit", status)
                )
    return found


def _thermodynamic_checks(state, limits):
    """Response functions, and pressures at the set state and along the isotherm."""
    name, own = state["id"], state.get("consistency", {})
    found = _ratio_check(
        name,
        "compressibility",
        "",
        state.get("compressibility_1_bar", {}),
        limits["compressibility"],
    )
    found += _ratio_check(
        name, "thermal expansion", "", own.get("thermal_expansion_1_K", {}), limits["expansion"]
    )
    pressure, isotherm = state.get("pressure_bar", {}), own.get("isotherm_bar", {})
    if {"target", "model", "model_se"} <= pressure.keys():
        value, error = pressure["model"] - pressure["target"], pressure["model_se"]
        found.append(_pressure_check(name, "pressure", value, error, limits["pressure"]))
    if {"mean", "mean_se"} <= isotherm.keys():
        value, error = isotherm["mean"], isotherm["mean_se"]
        found.append(_pressure_check(name, "isotherm", value, error, limits["isotherm"]))
    return found


def _pressure_check(name, quantity, value, error, limit):
    status = _status(abs(value), limit, SIGNIFICANT * error)
    return Check(name, quantity, "", value, limit, error, "bar", status)


def _ratio_check(name, quantity, part, row, limit):
    """Deviation of the model as a fraction of the reference; empty where a side is missing."""
    if "model" not in row or not row.get("reference"):
        return []
    value, error = _relative(row)
    status = _status(abs(value), limit, SIGNIFICANT * error)
    return [Check(name, f"{quantity} deviation", part, value, limit, error, "", status)]


def _relative(row):
    """Deviation of the model from the reference and its standard error, as fractions."""
    size = abs(row["reference"])
    error = math.hypot(row.get("model_se", 0.0), row.get("reference_se", 0.0)) / size
    return (row["model"] - row["reference"]) / size, error


def _density_checks(state, limits):
    entry = state.get("density_kg_m3", {})
    if not {"reference", "reference_se", "model", "model_se"} <= entry.keys():
        return []
    deviation, error = density_deviation(entry)
    limit = 100.0 * limits[f"density_{state['use']}"]
    status = _status(abs(deviation), limit, SIGNIFICANT * error)
    precision, most = 100.0 * entry["model_se"] / entry["model"], 100.0 * limits["density_se"]
    fine = _status(precision, most, 0.0)
    return [
        Check(state["id"], "density deviation", "", deviation, limit, error, "%", status),
        Check(state["id"], "density SE", "", precision, most, None, "%", fine),
    ]


def _consistency_checks(state, limits):
    """Structure beyond g(r), loss of transferability and symmetries, see remcg.consistency."""
    name, entry, found = state["id"], state.get("consistency", {}), []

    def add(quantity, part, value, key, error, unit, noise):
        status = _status(abs(value), limits[key], noise)
        found.append(Check(name, quantity, part, value, limits[key], error, unit, status))

    for part, row in entry.get("structure_factor", {}).items():
        error = row.get("rmse_se", 0.0)
        noise = row.get("noise_floor_rmse", 0.0) + SIGNIFICANT * error
        add("S(k) rmse", part, row["rmse"], "structure_factor", error, "", noise)
    for part, row in entry.get("neighbor_angles", {}).items():
        error = row.get("js_bits_se", 0.0)
        noise = SIGNIFICANT * error
        add("neighbour angles JS", part, row["js_bits"], "neighbor_angles_js", error, "bit", noise)
    for part, row in entry.get("coordination", {}).items():
        if row.get("reference"):
            value, error = _relative(row)
            noise = SIGNIFICANT * error
            add("coordination deviation", part, value, "coordination", error, "", noise)
        if "js_bits" in row:
            js, error = row["js_bits"], row.get("js_bits_se", 0.0)
            add("coordination JS", part, js, "coordination_js", error, "bit", SIGNIFICANT * error)
    penalty = state.get("penalty_nats_per_site")
    if penalty:
        noise = SIGNIFICANT * penalty["se"]
        value = max(penalty["value"], 0.0)  # below zero by noise alone
        add("transferability", "", value, "penalty_per_site", penalty["se"], "nats/site", noise)
    if entry.get("symmetry"):
        add("symmetry", "", max(entry["symmetry"].values()), "symmetry", None, "", 0.0)
    return found


def density_deviation(entry):
    """Deviation of the model's density and its standard error, per cent of the reference."""
    percent = 100.0 / entry["reference"]
    error = math.hypot(entry.get("reference_se", 0.0), entry.get("model_se", 0.0))
    return (entry["model"] - entry["reference"]) * percent, error * percent


def _status(value, limit, noise):
    if value <= limit:
        return "pass"
    return "within noise" if value <= noise else "fails"


def _worst_rdf(state):
    """Pair and numbers of the largest rmse."""
    return max(state.get("rdf", {}).items(), key=lambda item: item[1]["rmse"], default=None)


def _table_row(state):
    row = [state["id"], state["use"], *_table_rdf(state)]
    density = state.get("density_kg_m3", {})
    row.append(plus_minus(density["model"], density["model_se"]) if density else "-")
    row.append(plus_minus(*density_deviation(density)) if "reference" in density else "-")
    pressure = state.get("pressure_bar", {})
    known = "model" in pressure
    return [*row, plus_minus(pressure["model"], pressure.get("model_se")) if known else "-"]


def _table_rdf(state):
    worst = _worst_rdf(state)
    if worst is None:
        return ["-", "-"]
    name, rdf = worst
    mark = f" {name}" if len(state["rdf"]) > 1 else ""
    return [f"{plus_minus(rdf['rmse'], rdf.get('rmse_se'))}{mark}", f"{rdf['max']:.3f}"]


def _timing(summary):
    if "orchestration_fraction" not in summary:
        return ""
    total = summary.get("wall_s", {}).get("total")
    share = f"orchestration {100 * summary['orchestration_fraction']:.0f} %"
    return f"{share} of {total:.0f} s" if total else share


def _built(summary, model):
    """The model in words."""
    orders = {order: name for name, order in TEMPERATURE_ORDERS.items()}
    terms = []
    for term in model.terms:
        detail = f"order {term.n_basis}"
        if term.kind == "pair":
            detail = f"{term.n_basis} splines up to {term.basis.r_cut:g} nm"
        elif term.kind != "volume":
            detail = (
                f"{term.n_basis} functions"
                if term.form != "spline"
                else (f"{term.n_basis} splines")
            )
        name = f"{term.kind} term" if term.kind == "volume" else f"{term.kind} {term.name}"
        terms.append(f"{name} ({detail}, {orders[term.n_orders]} in temperature)")
    trained, tested = _temperatures(summary, "train"), _temperatures(summary, "test")
    sites = ", ".join(model.site_types)
    return (
        f"Coarse-grained model of the sites {sites}: {'; '.join(terms)}; {model.n_params} "
        f"parameters, trained at {trained} K"
        + (f", predicted without further fitting at {tested} K." if tested else ".")
    )


def _temperatures(summary, use):
    found = {state["temperature_K"] for state in summary["states"] if state["use"] == use}
    return ", ".join(f"{T:g}" for T in sorted(found))


def _banner(summary, checks):
    failing = [check for check in checks if check.status == "fails"]
    noisy = [check for check in checks if check.status == "within noise"]
    text = f"All {len(checks)} checks hold." if not failing else _failures(failing, checks)
    if noisy:
        text += f" {len(noisy)} only within the noise of this run."
    status = "fails" if failing else "pass"
    shown = [*failing, *noisy]
    most = len(failing) if len(failing) <= MOST_LISTED < len(shown) else MOST_LISTED
    return (
        f'<div class="banner {status}"><b>{html.escape(text)}</b> '
        f"{html.escape(headline(summary))}.{_listed(shown[:most])}{_unfolding(shown[most:])}</div>"
    )


def _listed(checks):
    items = "".join(f"<li>{html.escape(str(check))}</li>" for check in checks)
    return f"<ul>{items}</ul>" if checks else ""


def _unfolding(checks):
    if not checks:
        return ""
    counts = {status: sum(check.status == status for check in checks) for status in UNFOLDING}
    told = ", ".join(f"{number} {UNFOLDING[key]}" for key, number in counts.items() if number)
    return f"<details><summary>and {told}</summary>{_listed(checks)}</details>"


UNFOLDING = {"fails": "more that fail", "within noise": "within noise"}


def _misfits(summary):
    """Distributions that noise does not explain, checked or not: the worst state of each."""
    worst = {}
    for state in summary["states"]:
        own = state.get("consistency", {})
        rows = [
            (f"{label} {name}", entry)
            for key, label in (("neighbor_angles", "angles of neighbours"),
                               ("coordination", "numbers of neighbours"))
            for name, entry in own.get(key, {}).items()
        ]  # fmt: skip
        for name, shapes in state.get("chains", {}).items():
            rows += [(f"{_SHAPES.get(kind, kind)} {name}", x) for kind, x in shapes.items()]
        for label, entry in rows:
            js, floor = entry.get("js_bits", 0.0), entry.get("noise_floor_js_bits", 0.0)
            if floor and js > MISFIT * floor and js > worst.get(label, (0.0,))[0]:
                worst[label] = js, js / floor, state["id"]
    if not worst:
        return ""
    shown = sorted(worst.items(), key=lambda item: item[1], reverse=True)[:MOST_MISFITS]
    spoken = "; ".join(
        f"{html.escape(label)} ({1e3 * js:.1f} mbit, {ratio:.0f} floors, {html.escape(state)})"
        for label, (js, ratio, state) in shown
    )
    more = f"; {len(worst) - len(shown)} more" if len(worst) > len(shown) else ""
    title = "What the terms of this model do not represent"
    if not summary["rem"].get("converged"):
        title = "What this model, which did not converge, does not represent"
    return (
        f"<p class=key><b>{title}</b>, whatever the checks "
        f"allow (Jensen-Shannon divergence, and in noise floors, of the worst state): {spoken}"
        f"{more}.</p>"
    )


_SHAPES = {"rg_nm": "radius of gyration", "end_nm": "end-to-end distance"}


def _failures(failing, checks):
    verb = "fails" if len(failing) == 1 else "fail"
    return f"{len(failing)} of {len(checks)} checks {verb}."


def _key(checks):
    limits = {}
    for check in checks:
        if check.subject != "rem":
            limits.setdefault((check.quantity, check.unit), set()).add(check.limit)
    shown = "; ".join(
        f"{quantity} {_spoken_limits(sorted(values))} {unit}".strip()
        for (quantity, unit), values in limits.items()
    )
    return (
        "<p class=key>✓ within its limit · ≈ beyond it, but no significant deviation (three "
        "standard errors) · ✗ fails. Errors are standard errors; the noise floor is the rmse that "
        f"a perfect model would show. Limits (trained or test states): {html.escape(shown)}.</p>"
    )


def _spoken_limits(values):
    if len(values) > 2:
        return f"{values[0]:.3g} to {values[-1]:.3g}"
    return " or ".join(f"{limit:.3g}" for limit in values)


def _baseline_table(summary):
    """The starting guess beside the model at the training states; empty without it."""
    rows = []
    for state in summary["states"]:
        own = state.get("consistency", {}).get("boltzmann")
        if own:
            rows += _baseline_rows(state, own)
    if not rows:
        return ""
    header = (
        "state", "pair", "rmse of g(r)<br>Boltzmann inv.", "final<br>model",
        "pressure of the<br>site terms (bar)<br>Boltzmann inv.", "final<br>model",
        "with volume<br>term (bar)<br>Boltzmann inv.", "final<br>model",
        "density<br>deviation (%)<br>Boltzmann inv.", "final<br>model",
    )  # fmt: skip
    return page.table(header, rows)


def _baseline_rows(state, own):
    alone, density = own["pair_pressure_bar"], own.get("density_deviation")
    final = state.get("density_kg_m3", {})
    common = [
        value_of(alone, "guess"),
        value_of(alone, "model"),
        value_of(own["pressure_bar"], "model"),
        value_of(state.get("pressure_bar", {}), "model"),
        plus_minus(100 * density["value"], 100 * density["se"]) if density else _far(state, own),
        plus_minus(*density_deviation(final)) if {"reference", "model"} <= final.keys() else "",
    ]
    for name, entry in own["rdf"].items():
        rmse = state.get("rdf", {}).get(name, {})
        errors = [plus_minus(row["rmse"], row.get("rmse_se")) if row else ""
                  for row in (entry, rmse)]  # fmt: skip
        yield [html.escape(state["id"]), html.escape(name), *errors, *common]


def _far(state, own):
    """Where the guess's density is too far off for its compressibility to tell it."""
    target = state.get("pressure_bar", {}).get("target")
    if target is None or "reference" not in state.get("compressibility_1_bar", {}):
        return ""
    from remcg.consistency.baseline import LINEAR  # numba and scipy with it

    far = 100 * LINEAR
    return f"&lt; −{far:g}" if own["pressure_bar"]["model"] > target else f"&gt; {far:g}"


def _dynamics_note(summary):
    """What the dynamics of the model can and cannot say, and why a comparison is missing."""
    states = [state.get("consistency", {}) for state in summary["states"]]
    parts, table = [CONSERVATIVE, _kernels(states)], _dynamics_table(summary["states"])
    if not table and not parts[1]:
        return ""
    return "".join(f'<p class="note">{part}</p>' for part in parts if part) + table


CONSERVATIVE = (
    "<b>What this dynamics can and cannot give.</b> A coarse-grained potential is a free energy: "
    "it says which configurations occur how often, and that is all that was fitted. Moving under "
    "its forces alone conserves energy and lacks the friction and the random forces of the atoms "
    "that were left out, so that times, diffusion coefficients, viscosities and rates are not "
    "those of the reference; one factor does not mend all of them, and it depends on temperature. "
    "Averages over configurations do not depend on how they were visited. Times would need a "
    "generalised Langevin equation with the memory kernel of the mapped reference."
)


def _kernels(states):
    """What is known of memory kernels, and why that of the reference is missing."""
    memories = [state.get("memory", {}) for state in states]
    if any("reference" in row for row in memories):
        until = {f"{own['friction_until_ps']:.2g}" for row in memories for own in row.values()
                 if "friction_until_ps" in own}  # fmt: skip
        return (
            f"Friction is the integral of the memory kernel over its first {_either(until)} ps: "
            "what the model's own kernel has less, a generalised Langevin equation has to add."
        )
    if not any("model" in row for row in memories):
        return ""
    frames = [state["frames_ps"] for state in states if "reference" in state.get("frames_ps", {})]
    why = "its frames have no times or are too few"
    if frames:
        apart, needed = max(row["reference"] for row in frames), frames[0]["needed"]
        why = f"its frames are {apart:g} ps apart and {needed:g} ps or less are needed"
    return (
        f"No memory kernel of the mapped reference: {why}. Set <code>reference.dynamics</code>, or "
        "give states a short trajectory as <code>dynamics</code>, to have it."
    )


def _either(texts):
    return " or ".join(sorted(texts))


_DYNAMICS = (
    ("speed-up<br>of diffusion", lambda row: _value(row.get("speed_up", {}), "value", "se")),
    ("K(0) of the model<br>velocities (ps⁻²)", lambda row: _memory(row, "model", 0)),
    ("<br>forces", lambda row: _memory(row, "model", 1)),
    ("friction<br>(ps⁻¹)", lambda row: _memory(row, "model", 2)),
    ("K(0) of the reference<br>velocities (ps⁻²)", lambda row: _memory(row, "reference", 0)),
    ("<br>forces", lambda row: _memory(row, "reference", 1)),
    ("friction<br>(ps⁻¹)", lambda row: _memory(row, "reference", 2)),
    ("T of its<br>runs (K)", lambda row: _kinetic(row, "reference")),
    ("VAMP-2<br>mapped reference", lambda row: _score(row, "reference")),
    ("with energy<br>of the atoms", lambda row: _score(row, "with_energy")),
    ("<br>model", lambda row: _score(row, "model")),
)
_KERNEL_ERRORS = {
    "runs": "from run to run",
    "pieces": "of pieces of runs, which share an energy where no thermostat changes it",
    "molecules": (
        "of groups of molecules, as runs are few and short: frictions of two runs differ by more"
    ),
}
_KERNEL_KEYS = "kernel_zero_1_ps2", "force_kernel_zero_1_ps2", "friction_1_ps"


def _value(entry, key, error):
    return plus_minus(entry[key], entry[error]) if key in entry else ""


def _memory(row, side, k):
    name = _KERNEL_KEYS[k]
    return _value(row.get("memory", {}).get(side, {}), name, f"{name}_se")


def _kinetic(row, side):
    T = row.get("memory", {}).get(side, {}).get("kinetic_temperature_K")
    return f"{T:.0f}" if T else ""


def _score(row, side):
    return _value(row.get("vamp2", {}), side, f"{side}_se")


def _dynamics_table(states):
    """One row per state; columns that are empty at all states are left out."""
    rows = [[cell(state.get("consistency", {})) for _, cell in _DYNAMICS] for state in states]
    shown = [k for k in range(len(_DYNAMICS)) if any(row[k] for row in rows)]
    if not shown:
        return ""
    header = ["state", "T (K)", *(_DYNAMICS[k][0] for k in shown)]
    body = [
        [html.escape(state["id"]), f"{state['temperature_K']:g}", *(row[k] for k in shown)]
        for state, row in zip(states, rows)
    ]
    lags = {state["consistency"]["vamp2"]["lag_ps"] for state in states
            if "vamp2" in state.get("consistency", {})}  # fmt: skip
    spoken = " or ".join(f"{lag:g}" for lag in sorted(lags))
    key = (
        "Errors are standard errors. K(0), the memory kernel at time zero, from the velocity "
        "autocorrelation and as ⟨F²⟩/(3 m kT): equal by the fluctuation-dissipation relation."
    )
    memories = [state.get("consistency", {}).get("memory", {}) for state in states]
    if any("reference" in row for row in memories):
        key += " T is that of the molecules' centres in the short runs of the reference."
    for side in ("reference", "model"):
        found = {row[side].get("errors_of") for row in memories if side in row}
        if said := "; ".join(_KERNEL_ERRORS[name] for name in _KERNEL_ERRORS if name in found):
            key += f" Errors of K(0) from velocities and of the friction of the {side}: {said}."
    if lags:
        key += (
            " VAMP-2: cross-validated score of the components of largest variance of the basis"
            f" sums, at fixed volume, at a lag of {spoken} ps; 1 means that nothing slower is"
            " resolved. More with the energy of the atoms than without: slow motion that the sites"
            " do not tell."
        )
    return f"{page.table(header, body)}<p class=key>{key}</p>"


def _free_energy_table(states):
    """Excess free energies of the model; nothing where no states share samples."""
    found = [(s, s["consistency"]["excess_free_energy"]) for s in states
             if "excess_free_energy" in s.get("consistency", {})]  # fmt: skip
    if len(found) < 2:
        return ""
    header = ["state", "T (K)", "excess free energy<br>of the model (kT per molecule)", "overlap"]
    rows = [
        [
            html.escape(state["id"]),
            f"{state['temperature_K']:g}",
            plus_minus(row["kT_per_molecule"], row["se"]) if row["se"] else "0",
            f"{row['overlap']:.2f}",
        ]
        for state, row in found
    ]
    first = html.escape(found[0][1]["relative_to"])
    key = (
        f"Differences from {first}, less those of an ideal gas, by MBAR; overlap: with the samples "
        "of the state before. U is a free energy that depends on T, so there is no counterpart of "
        "the reference."
    )
    return f"{page.table(header, rows)}<p class=key>{key}</p>"


def _file_list(files):
    if not files:
        return ""
    items = "".join(f"<li><code>{html.escape(str(name))}</code></li>" for name in files)
    return f"<h2>Files</h2><ul>{items}</ul>"
