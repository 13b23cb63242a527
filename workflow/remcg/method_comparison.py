"""``remcg methods``: one campaign with several methods, side by side in a table and a figure."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from remcg import config, launch
from remcg.errors import InputError
from remcg.io import read_h5, read_json, replacing, write_text
from remcg.model import Model
from remcg.terminal import Display
from remcg.units import BAR
from remcg.validate import StateResult, read_state

METHODS = ("rem", "ibi", "imc", "force_matching", "boltzmann")
DIRECT = ("force_matching", "boltzmann")  # nothing is iterated
COLUMNS = (
    "method",
    "status",
    "iterations",
    "cg_site_steps",
    "state",
    "use",
    "temperature_K",
    "rdf_rmse",
    "rdf_rmse_se",
    "rdf_noise_floor",
    "virial_pressure_bar",
    "virial_pressure_se",
    "density_kg_m3",
    "density_se",
    "density_reference",
    "compressibility_1_bar",
    "compressibility_reference",
)


@dataclass(frozen=True)
class Outcome:
    """What one method made of a campaign.

    Attributes
    ----------
    method : str
    updates : list of dict
        The ``update.json`` of its iterations, oldest first.
    site_steps : float
        CG steps times sites of one iteration, over all states and replicas.
    model : Model
    states : list of StateResult
        Predictions, all states of the campaign.
    virial : list of (float, float)
        Pressure of the pair terms at the volumes of each state's prediction, and its standard
        error, bar.
    """

    method: str
    updates: list
    site_steps: float
    model: Model
    states: list[StateResult]
    virial: list

    @property
    def status(self):
        """Whether the method iterates, and if so whether it came to an end."""
        if self.method in DIRECT:
            return "direct"
        return "converged" if self.updates[-1]["verdict"] == "converged" else "exhausted"


def compare_methods(path, methods=None, cores=1, state=None):
    """Run a campaign with each method, and write ``methods.tsv`` and ``methods.png``.

    Everything goes to ``results/<campaign>-methods``, except for the campaigns themselves, which
    are named ``<campaign>-<method>`` and go on from where they are, as with ``make run``.

    Parameters
    ----------
    path : path
        Config of the campaign; its own ``rem.method`` does not matter.
    methods : sequence of str, optional
        Default: all for which the campaign has what they need.
    cores : int
    state : str, optional
        Whose g(r) and U(r) are drawn; default: the training state nearest to T0.

    Returns
    -------
    dict
        Method to the exit code of its campaign.
    """
    campaign = config.load(path)
    chosen = _chosen_state(campaign, state)
    folder = Path("results", f"{campaign.campaign}-methods")
    variants = _write_variants(campaign, methods, folder)
    codes = {}
    for method, variant in variants.items():
        print(f"\n{variant.campaign}", flush=True)
        file = str(folder / f"{method}.yaml")
        codes[method] = launch.main(["--configfile", file, "--cores", str(cores)])
        if codes[method] == launch.INTERRUPTED:
            return codes
    outcomes = [read_outcome(each) for each in variants.values() if _is_complete(each)]
    if outcomes:
        write_table(folder / "methods.tsv", outcomes)
        from remcg.plot_methods import methods_figure

        methods_figure(folder / "methods.png", outcomes, chosen)
        display = Display()
        display.say()
        display.show(*summary(outcomes))
        display.say(f"table:  {folder}/methods.tsv\nfigure: {folder}/methods.png")
    for variant in variants.values():
        if not _is_complete(variant):
            print(f"{variant.campaign} has no result; see logs/{variant.campaign}")
    return codes


def _write_variants(campaign, methods, folder):
    """Method to its campaign; without ``methods`` those that cannot be are left out."""
    variants = {}
    for method in methods or METHODS:
        path = folder / f"{method}.yaml"
        _write_if_new(path, variant_of(campaign, method))
        try:
            variants[method] = config.load(path)
        except InputError as error:
            if methods:
                raise
            print(f"left out: {method} ({error})")
    return variants


def variant_of(campaign, method):
    """The campaign with another method and name, as YAML; files by their absolute names.

    Limits do not stop it and nothing is backmapped.
    """
    content = campaign.to_config()
    content["campaign"] = f"{campaign.campaign}-{method}"
    content["rem"]["method"] = method
    content["validate"]["strict"] = False
    content["backmap"]["frames"] = 0
    text = yaml.safe_dump(content, sort_keys=False)
    return f"# Written by: remcg methods. Made from {campaign.source.name}.\n{text}"


def _write_if_new(path, text):
    """Leave a file alone that says the same, as a newer config makes inputs be read again."""
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def _chosen_state(campaign, name):
    known = [state.id for state in campaign.states]
    if name is None:
        T0 = campaign.reference_temperature
        return min(campaign.training, key=lambda state: abs(state.temperature - T0)).id
    if name not in known:
        raise InputError(f"--state: found {name}; the campaign has {', '.join(known)}")
    return name


def _is_complete(campaign):
    return Path("results", campaign.campaign, "summary.json").is_file()


def read_outcome(campaign):
    """The :class:`Outcome` of a campaign that has run, from ``results/<campaign>``."""
    results = Path("results", campaign.campaign)
    model = Model.read(results / "model" / "model.json")
    count = read_json(results / "summary.json")["rem"]["iterations"]
    updates = [read_json(results / f"rem/iter-{k:03d}/update.json") for k in range(1, count + 1)]
    states, virial, n_sites = [], [], 0
    for state in campaign.states:
        files = results / f"target/{state.id}.h5", results / f"predict/{state.id}.h5"
        states.append(read_state(state.id, state.use, *files, model))
        pressure = read_h5(files[1])[0]["pressure"] / BAR
        virial.append((pressure.mean(), _error_of_mean(pressure)))
        if state.use == "train":
            n_sites += int(read_h5(files[0])[1]["n_sites"])
    steps = campaign.sample.replicas * (campaign.sample.steps + campaign.sample.equilibration)
    return Outcome(campaign.rem.method, updates, n_sites * steps, model, states, virial)


def _error_of_mean(series):
    from remcg.statistics import standard_error

    return float(standard_error(series)[1])


def rows(outcomes):
    """One dictionary per method and state, keys as ``COLUMNS``; what does not exist is left out."""
    return [
        _row(outcome, state.numbers, virial)
        for outcome in outcomes
        for state, virial in zip(outcome.states, outcome.virial)
    ]


def _row(outcome, numbers, virial):
    pairs = list(numbers.get("rdf", {}).values())
    density, kappa = (numbers.get(name, {}) for name in ("density_kg_m3", "compressibility_1_bar"))
    found = {
        "method": outcome.method,
        "status": outcome.status,
        "iterations": len(outcome.updates),
        "cg_site_steps": outcome.site_steps * len(outcome.updates),
        "state": numbers["id"],
        "use": numbers["use"],
        "temperature_K": numbers["temperature_K"],
        "rdf_rmse": _root_mean_square(pair["rmse"] for pair in pairs),
        "rdf_rmse_se": _root_mean_square(pair.get("rmse_se") for pair in pairs),
        "rdf_noise_floor": _root_mean_square(pair.get("noise_floor_rmse") for pair in pairs),
        "virial_pressure_bar": virial[0],
        "virial_pressure_se": virial[1],
        "density_kg_m3": density.get("model"),
        "density_se": density.get("model_se"),
        "density_reference": density.get("reference"),
        "compressibility_1_bar": kappa.get("model"),
        "compressibility_reference": kappa.get("reference"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _root_mean_square(values):
    found = [value for value in values if value is not None]
    return float(np.sqrt(np.mean(np.square(found)))) if found else None


def write_table(path, outcomes):
    """``methods.tsv``: one line per method and state."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for row in rows(outcomes):
            writer.writerow({key: _spoken(value) for key, value in row.items()})


def _spoken(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def summary(outcomes):
    """Header and rows, texts, one row per method: how long it took and how well it does."""
    header = ["method", "status", "iterations", "g(r) rmse", "g(r) rmse, test"]
    header += ["density %", "density %, test"]
    return header, [_summary_row(outcome) for outcome in outcomes]


def _summary_row(outcome):
    found = rows([outcome])
    numbers = [
        _worst(found, use, quantity)
        for quantity in (lambda row: row.get("rdf_rmse"), _density_deviation)
        for use in ("train", "test")
    ]
    cells = [f"{n:.{d}f}" if n is not None else "-" for n, d in zip(numbers, (4, 4, 2, 2))]
    return [outcome.method, outcome.status, str(len(outcome.updates)), *cells]


def _worst(found, use, quantity):
    values = [quantity(row) for row in found if row["use"] == use]
    return max((abs(value) for value in values if value is not None), default=None)


def _density_deviation(row):
    """Percent, or None at constant volume."""
    if not {"density_kg_m3", "density_reference"} <= row.keys():
        return None
    return 100.0 * (row["density_kg_m3"] / row["density_reference"] - 1.0)
