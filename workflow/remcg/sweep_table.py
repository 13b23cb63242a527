"""The table and the figure of a sweep: which variant describes states that it has not seen best."""

import json
from pathlib import Path

import numpy as np

from remcg import verify
from remcg.bonded import site_sums
from remcg.errors import InputError
from remcg.io import read_h5, read_json, write_text
from remcg.model import Model
from remcg.sample import read_topology
from remcg.statistics import inefficiency, standard_error
from remcg.sweep import changes_of, spoken, table_text
from remcg.terminal import Display
from remcg.units import KB

COLUMNS = (
    "best",
    "status",
    "iterations",
    "n_params",
    "held_out_nats_per_site",
    "held_out_se",
    "penalty_nats_per_site",
    "penalty_se",
    "rdf_rmse_train",
    "rdf_rmse_test",
    "density_percent_train",
    "density_percent_test",
    "compared_by",
    "left_out",
)
CODE = ("code", "version")  # what Snakemake does not run anything again for


def conclude(campaign, variants, codes):
    """Write ``sweep.tsv`` and ``sweep.png``: all variants, those that are up to date compared.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    variants : dict
        Name to campaign.
    codes : dict
        Name to the exit code of its run, of those that were started.
    """
    left_out = {name: why_left_out(each, codes.get(name)) for name, each in variants.items()}
    left_out = {name: reason for name, reason in left_out.items() if reason}
    compared = {name: each for name, each in variants.items() if name not in left_out}
    states, objection = common_states(compared)
    rows = rows_of(variants, changes_of(campaign), left_out, states)
    folder = Path("results", campaign.campaign)
    changed = [key for key in rows[0] if key not in COLUMNS]
    write_text(folder / "sweep.tsv", table_text([*changed, *COLUMNS], rows))
    (folder / "sweep.png").unlink(missing_ok=True)  # of other variants, perhaps
    shown, display = [row for row in rows if not row.get("left_out")], Display()
    if shown:
        from remcg.plot_sweep import sweep_figure

        sweep_figure(folder / "sweep.png", shown)
        display.say()
        display.show(*summary(shown))
    display.say(f"\n{_said(variants, left_out, states, objection)}\n")
    display.say(f"table:  {folder}/sweep.tsv")
    if shown:
        display.say(f"figure: {folder}/sweep.png")


def _said(variants, left_out, states, objection):
    """What was compared by what, and what was not, and why."""
    n, ids = len(variants) - len(left_out), ", ".join(state.id for state in states)
    lines = [f"{n} of {len(variants)} variants compared, by the reference frames of {ids}"]
    if not n:
        lines = ["no variant has results that can be compared"]
    elif objection:
        lines = [f"{n} of {len(variants)} variants shown, without a best one: {objection}"]
    for name, reason in left_out.items():
        lines.append(f"left out: {name}: {reason}; see logs/{variants[name].campaign}")
    return "\n".join(lines)


def why_left_out(campaign, code):
    """Why a variant is not compared, or None.

    What a run finished is up to date. After any other end (exit code ``code``; None: not started)
    only results count that are what an earlier run of the same config and inputs wrote.
    """
    results = Path("results", campaign.campaign)
    if not (results / "summary.json").is_file():
        return "has no result"
    if code == 0:
        return None
    try:
        rows = [row for row in verify.rows_of(results, campaign.source) if row.kind not in CODE]
    except InputError as error:
        return f"did not end well, and its earlier results are not whole ({error})"
    if not rows:
        return None
    row = rows[0]
    found = f"{row.status} {row.kind} {row.name}" + (f", {row.detail}" if row.detail else "")
    return f"did not end well, and its earlier results are of another run ({found})"


def common_states(variants):
    """States by which variants can be compared, and why not, where there are none.

    These are the states that all of them hold out, or where no variant holds out any, those that
    all are trained on; with the same temperature, pressure, reference and mapping.
    """
    every = list(variants.values())
    if not every:
        return [], "there is no variant"
    use = "test" if any(each.test for each in every) else "train"
    ids = [{state.id for state in each.states if state.use == use} for each in every]
    alike = [state for state in every[0].states if all(state.id in each for each in ids)]
    spoken = "held out" if use == "test" else "trained on"
    if not alike:
        return [], f"no state is {spoken} in all of them"
    same = [state for state in alike if len({_reference(each, state.id) for each in every}) == 1]
    names = ", ".join(state.id for state in alike)
    return same, "" if same else f"{names} and its mapping are not the same in all of them"


def _reference(campaign, name):
    """What the reference frames of a state are, as text."""
    content = campaign.to_dict()
    state = next(item for item in content["states"] if item["id"] == name)
    state = {key: value for key, value in state.items() if key not in ("use", "weight")}
    files = [str(campaign.topology(name)), str(campaign.system.mapping)]
    return json.dumps([state, files], sort_keys=True)


def rows_of(variants, changes, left_out=(), states=()):
    """One dictionary per variant: what it changes, then :data:`COLUMNS` as far as they exist.

    Parameters
    ----------
    variants : dict
        Name to campaign.
    changes : dict
        Name to what it changes.
    left_out : dict
        Name to the reason why a variant is not compared.
    states : sequence of remcg.config.State
        By which the others are compared.
    """
    keys = list(dict.fromkeys(key for name in variants for key in changes[name]))
    compared = {name: each for name, each in variants.items() if name not in left_out}
    likelihood = {}
    if states:
        likelihood = relative_entropies(compared, states)
        best = min(likelihood, key=lambda name: likelihood[name]["held_out_nats_per_site"])
        likelihood = relative_entropies(compared, states, best)  # errors of what is shown
    rows = []
    for name, campaign in variants.items():
        row = {"variant": name, **{key: changes[name].get(key, "") for key in keys}}
        if name in left_out:
            rows.append({**row, "status": "left out", "left_out": left_out[name]})
            continue
        summary = read_json(Path("results", campaign.campaign, "summary.json"))
        rows.append({**row, **numbers_of(summary), **likelihood.get(name, {})})
        if states:
            rows[-1]["compared_by"] = " ".join(state.id for state in states)
    mark_best(rows)
    return rows


def mark_best(rows):
    """``best`` for the lowest relative entropy, ``as good`` within two standard errors of it.

    Values are taken relative to the best variant.
    """
    measured = [row for row in rows if "held_out_nats_per_site" in row]
    if not measured:
        return
    best = min(measured, key=lambda row: row["held_out_nats_per_site"])
    lowest = best["held_out_nats_per_site"]
    for row in measured:
        row["held_out_nats_per_site"] -= lowest
        error = np.hypot(row["held_out_se"], best["held_out_se"])
        row["best"] = "as good" if row["held_out_nats_per_site"] < 2.0 * error else ""
    best["best"] = "best"


def numbers_of(summary):
    """What a ``summary.json`` says of its campaign, train and test states apart."""
    rem = summary["rem"]
    found = {
        "status": "converged" if rem["converged"] else "exhausted",
        "iterations": rem["iterations"],
        "n_params": rem["n_params"],
    }
    for use in ("train", "test"):
        states = [state for state in summary["states"] if state["use"] == use]
        errors = [pair["rmse"] for state in states for pair in state.get("rdf", {}).values()]
        densities = [state["density_kg_m3"] for state in states if "density_kg_m3" in state]
        deviations = [100.0 * abs(d["model"] / d["reference"] - 1.0) for d in densities]
        if errors:
            found[f"rdf_rmse_{use}"] = float(np.sqrt(np.mean(np.square(errors))))
        if deviations:
            found[f"density_percent_{use}"] = float(max(deviations))
    penalties = [s["penalty_nats_per_site"] for s in summary["states"]
                 if s["use"] == "test" and "penalty_nats_per_site" in s]  # fmt: skip
    if penalties:
        found["penalty_nats_per_site"] = float(np.mean([p["value"] for p in penalties]))
        errors = [p["se"] for p in penalties if "se" in p]
        found["penalty_se"] = float(np.sqrt(np.sum(np.square(errors))) / len(penalties))
    return found


def relative_entropies(variants, states, against=None):
    r"""Relative entropy of some states, nats per site, above that of one variant.

    .. math:: S_B - S_A = \beta \langle U_B - U_A \rangle_{ref} - (f_B - f_A)

    which is minus the difference of the log-likelihoods of the reference frames. The difference of
    the free energies f (in kT) is Bennett's, from kept configurations of both predictions.

    Parameters
    ----------
    variants : dict
        Name to campaign, all complete.
    states : sequence of remcg.config.State
        Which all of them have alike (:func:`common_states`).
    against : str, optional
        Name of the variant to compare with; default: the first one.

    Returns
    -------
    dict
        Name to ``held_out_nats_per_site`` and ``held_out_se``, means over the states.

    References
    ----------
    Shell, J. Chem. Phys. 129, 144108 (2008), eq. 4; Bennett, J. Comput. Phys. 22, 245 (1976).
    """
    first = against or next(iter(variants))
    found = {first: {"held_out_nats_per_site": 0.0, "held_out_se": 0.0}}
    for name in variants.keys() - {first}:
        pairs = [difference(variants[first], variants[name], state) for state in states]
        values, errors = np.array(pairs).T
        found[name] = {
            "held_out_nats_per_site": float(values.mean()),
            "held_out_se": float(np.sqrt((errors**2).sum()) / len(values)),
        }
    return found


def difference(first, second, state):
    """(S_second - S_first, standard error) of one state, nats per site."""
    beta = 1.0 / (KB * state.temperature)
    sides = [_Side(campaign, state) for campaign in (first, second)]
    energies = [side.reference_energies() for side in sides]
    if len(energies[0]) != len(energies[1]):
        raise InputError(
            f"{first.campaign} and {second.campaign} have different reference frames of "
            f"{state.id}, so their likelihoods cannot be compared; vary no start, end or stride"
        )
    mean, error = standard_error(beta * (energies[1] - energies[0])[None])
    forward = beta * (sides[1].energies_of(sides[0]) - sides[0].energies_of(sides[0]))
    backward = beta * (sides[0].energies_of(sides[1]) - sides[1].energies_of(sides[1]))
    free, free_error = bennett(forward, backward)
    n_sites = sides[0].topology.n_sites
    return (mean - free) / n_sites, float(np.hypot(error, free_error)) / n_sites


class _Side:
    """Model of a variant, its target and the kept configurations of its prediction of a state."""

    def __init__(self, campaign, state):
        results = Path("results", campaign.campaign)
        self.state, self.exclude = state, campaign.exclude
        self.model = Model.read(results / "model" / "model.json")
        shared = Path("results", campaign.share.targets or campaign.campaign)
        self.target = read_h5(shared / "target" / f"{state.id}.h5")
        self.kept, self.about = read_h5(results / "predict" / f"{state.id}.h5")
        self.topology = read_topology(self.kept)

    def reference_energies(self):
        """kJ/mol, of every frame of the reference."""
        arrays, about = self.target
        return self._energies(arrays["site_sums"], arrays["volume"], int(about["n_molecules"]))

    def energies_of(self, other):
        """kJ/mol, of the kept configurations of another side."""
        positions, boxes = other.kept["trajectory"], other.kept["trajectory_box"]
        volumes = boxes.prod(axis=-1) if boxes.ndim == 2 else np.abs(np.linalg.det(boxes))
        sums = site_sums(
            positions,
            boxes,
            self.topology,
            list(self.model.site_types),
            self.model.site_terms,
            self.topology.excluded(self.exclude),
        )
        return self._energies(sums, volumes, int(other.about["n_molecules"]))

    def _energies(self, sums, volumes, n_molecules):
        phi = self.model.basis_sums(sums, volumes, n_molecules)
        return phi @ self.model.theta(self.state.temperature)


def bennett(forward, backward, n_steps=200):
    r"""Free energy difference f_B - f_A in kT and its standard error.

    Parameters
    ----------
    forward : ndarray
        u_B - u_A of samples of A, in kT.
    backward : ndarray
        u_A - u_B of samples of B.

    The root of sum 1/(1 + exp(M + w_F - f)) = sum 1/(1 + exp(-M + w_R + f)), M = ln(n_A/n_B),
    found by bisection; the asymptotic variance takes each series' statistical inefficiency.

    References
    ----------
    Bennett (1976), eqs. 12 and 10; Shirts et al., Phys. Rev. Lett. 91, 140601 (2003), eqs. 8, 10.
    """
    m = np.log(len(forward) / len(backward))
    everything = np.concatenate([forward, -backward])
    low, high = everything.min() - 50.0, everything.max() + 50.0
    for _ in range(n_steps):
        f = 0.5 * (low + high)
        excess = _fermi(m + forward - f).sum() - _fermi(-m + backward + f).sum()
        low, high = (f, high) if excess < 0.0 else (low, f)
    parts = []
    for fermi in (_fermi(m + forward - f), _fermi(-m + backward + f)):
        n_eff = len(fermi) / inefficiency(fermi[None, :, None])
        parts.append((np.mean(fermi**2) / np.mean(fermi) ** 2 - 1.0) / n_eff)
    return f, float(np.sqrt(sum(parts)))


def _fermi(x):
    return 0.5 * (1.0 - np.tanh(0.5 * x))


def summary(rows):
    """Header and rows for the terminal, texts, one row per variant."""
    header = ["variant", "status", "params", "held-out nats/site", "g(r) test", "best"]
    lines = []
    for row in rows:
        held = "-"
        if "held_out_nats_per_site" in row:
            held = f"{row['held_out_nats_per_site']:.6f} ± {row['held_out_se']:.6f}"
        rmse = row.get("rdf_rmse_test")
        shown = f"{rmse:.4f}" if rmse is not None else "-"
        cells = [row["variant"], row["status"], spoken(row["n_params"]), held, shown]
        lines.append([str(cell) for cell in (*cells, row.get("best") or "")])
    return header, lines
