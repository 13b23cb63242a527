"""The Boltzmann inversion that a campaign starts from, judged as its final model is.

The first iteration of the loop samples the guess at the volume of each training state's reference,
so that nothing more has to be sampled.
"""

from dataclasses import dataclass

import numpy as np

from remcg.statistics import standard_error
from remcg.units import BAR
from remcg.validate import rdf_errors, rdf_pairs, write_table

LINEAR = 0.05  # relative change of the density up to which the compressibility tells it
HEADER = (
    "state pair guess_rmse guess_rmse_se model_rmse model_rmse_se noise_floor"
    " guess_pairs_bar guess_pairs_se model_pairs_bar model_pairs_se"
    " guess_pressure_bar guess_pressure_se model_pressure_bar model_pressure_se set_bar"
    " guess_density_percent guess_density_se model_density_percent model_density_se"
).split()


@dataclass(frozen=True)
class Baseline:
    """The guess and the final model at one training state.

    Attributes
    ----------
    numbers : dict
        rdf {pair: {rmse, rmse_se, max, noise_floor_rmse, js_bits}} of the guess; pressure_bar
        {model, model_se} of the guess at the reference's volume; pair_pressure_bar {guess,
        guess_se, model, model_se} without the volume terms; density_deviation {value, se}, to first
        order, where it is small.
    guess, model : dict of remcg.validate.RdfPair
    """

    numbers: dict
    guess: dict
    model: dict


def compare(target, guess_sample, sample, guess, model, validated):
    """One training state.

    Parameters
    ----------
    target, guess_sample, sample : (dict, dict)
        Content of ``target/<state>.h5``, of the guess's samples and of ``predict/<state>.h5``.
    guess, model : Model
    validated : dict
        The state as in ``validate/states.json``.

    Returns
    -------
    Baseline
    """
    temperature, n = float(sample[1]["temperature"]), int(target[1]["n_molecules"])
    pairs = rdf_pairs(*target, guess_sample[0])
    cuts = {term.name: term.basis.r_cut for term in model.pair_terms}
    errors = {name: rdf_errors(pairs[name], cuts[name]) for name in cuts if name in pairs}
    sampled = guess_sample[0]
    own = sampled["pressure"]
    total = own + guess.volume_pressure(sampled["volume"], n, temperature)
    pressure = {"model": total.mean() / BAR, "model_se": float(standard_error(total)[1]) / BAR}
    alone = {}
    for side, values in (("guess", own), ("model", sample[0]["pressure"])):
        value, error = standard_error(values)
        alone |= {side: float(value) / BAR, f"{side}_se": float(error) / BAR}
    found = {"rdf": {name: entry for name, entry in errors.items() if entry}}
    found |= {"pressure_bar": pressure, "pair_pressure_bar": alone}
    kappa, set_pressure = validated.get("compressibility_1_bar", {}), validated["pressure_bar"]
    if "reference" in kappa and "target" in set_pressure:
        excess = pressure["model"] - set_pressure["target"]
        change = -kappa["reference"] * excess
        error = np.hypot(kappa["reference"] * pressure["model_se"], kappa["reference_se"] * excess)
        if abs(change) <= LINEAR:
            found["density_deviation"] = {"value": float(change), "se": float(error)}
    return Baseline(found, pairs, rdf_pairs(*target, sample[0]))


def write_baseline_table(path, states, found):
    """``consistency/baseline.tsv``: one row per training state and pair.

    Parameters
    ----------
    path : path
    states : list of dict
        As in ``validate/states.json``.
    found : dict
        Name of a training state to its :class:`Baseline`.
    """
    rows = []
    for state in states:
        if state["id"] in found:
            rows += _rows(state, found[state["id"]].numbers)
    write_table(path, HEADER, rows)


def _rows(state, own):
    alone, pressure = own["pair_pressure_bar"], state["pressure_bar"]
    density = own.get("density_deviation")
    common = [alone[key] for key in ("guess", "guess_se", "model", "model_se")]
    common += [own["pressure_bar"][key] for key in ("model", "model_se")]
    common += [pressure["model"], pressure["model_se"], pressure.get("target", "")]
    common += [100.0 * density["value"], 100.0 * density["se"]] if density else ["", ""]
    common += model_deviation(state) or ["", ""]
    for name, entry in own["rdf"].items():
        final = state.get("rdf", {}).get(name, {})
        values = [final.get(key, "") for key in ("rmse", "rmse_se", "noise_floor_rmse")]
        yield [state["id"], name, entry["rmse"], entry["rmse_se"], *values, *common]


def model_deviation(state):
    """[deviation of the model's density, its standard error], per cent, or None."""
    rho = state.get("density_kg_m3", {})
    if not {"reference", "model"} <= rho.keys():
        return None
    error = np.hypot(rho["model_se"], rho["reference_se"])
    return [100.0 * (rho["model"] / rho["reference"] - 1.0), 100.0 * error / rho["reference"]]
