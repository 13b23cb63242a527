"""What all states of a campaign say together: penalties, equation of state, free energies."""

import csv
from itertools import pairwise

import numpy as np

from remcg import optimize
from remcg.consistency import baseline, thermodynamics, tradeoff, transferability
from remcg.errors import InputError
from remcg.reweight import Ensemble, Mixture
from remcg.units import BAR, beta
from remcg.validate import write_table

N_BATCHES = 10  # of a replica
FACTS = ("id", "use", "temperature_K")
LEAST_OVERLAP = 0.03  # of neighbouring states, for free energy differences


def local_states(model, states, targets, samples):
    """Relative entropies of all states to second order, and samples of the model as ensembles.

    Parameters
    ----------
    model : Model
        The final one, which the predictions sampled.
    states : sequence of remcg.config.State
    targets, samples : sequence of (dict, dict)
        Content of ``target/<state>.h5`` and ``predict/<state>.h5`` in the order of ``states``.

    Returns
    -------
    (list of transferability.LocalState, list of remcg.reweight.Ensemble, list of dict, list)
        The dictionaries are the attributes of the targets, the last list the features of the
        references, each (1, n_frames, n_phi + 1).
    """
    local, ensembles, attributes, references = [], [], [], []
    for state, (reference, found), (arrays, _) in zip(states, targets, samples):
        n, theta = int(found["n_molecules"]), model.theta(state.temperature)
        own = model.basis_sums(reference["site_sums"], reference["volume"], n)[None]
        phi = model.basis_sums(arrays["site_sums"], arrays["volume"], n)
        n_sites = int(found["n_sites"])
        local.append(
            transferability.local_state(state.id, state.temperature, theta, own, phi, n_sites)
        )
        features = np.concatenate([phi, arrays["volume"][..., None]], axis=-1)
        pressure = BAR * (state.pressure or 0.0)
        coefficients = beta(state.temperature) * np.append(theta, pressure)
        ensembles.append(Ensemble(coefficients, features, min(N_BATCHES, features.shape[1])))
        attributes.append(found)
        references.append(np.concatenate([own, reference["volume"][None, :, None]], axis=-1))
    return local, ensembles, attributes, references


def penalties(model, states, local, attributes):
    """Penalties of all models at all states: :func:`remcg.consistency.transferability.matrix`."""
    trained = [state.use == "train" for state in states]
    return transferability.matrix(local, model, trained, _weights(states, attributes))


def _weights(states, attributes):
    return optimize.weights(states, [int(found["n_molecules"]) for found in attributes])


def equation_of_state(numbers, attributes):
    """Thermal expansion, thermal pressure, isochore and difference of the isotherms of every state.

    Parameters
    ----------
    numbers : list of dict
        The states as in ``validate/states.json``.
    attributes : list of dict
        Of their targets.

    Returns
    -------
    list of dict
        thermal_expansion_1_K and thermal_pressure_bar_K {reference, reference_se, model,
        model_se}, where another temperature has the same pressure and composition, and there
        isochore_bar with the same keys and density_kg_m3: the pressure at the reference's density
        at the middle temperature, where it is near enough; isotherm_bar {rms, se, noise_floor,
        mean, mean_se}, at constant pressure. Isotherms and isochores are those of
        :func:`remcg.consistency.thermodynamics.isotherm`, of both sides alike. Where a state of the
        same temperature and composition has a higher pressure, continued_bar with the same keys,
        to and set: the isotherm at that state's density, which only the first order keeps from
        being its pressure.
    """
    result = [_isotherm(item) for item in numbers]
    for k, entry in enumerate(_continued(numbers, attributes)):
        result[k] |= entry
    groups = {}
    for k, (item, found) in enumerate(zip(numbers, attributes)):
        pressure = item.get("pressure_bar", {}).get("target")
        if pressure is not None and "density_kg_m3" in item:
            groups.setdefault((pressure, str(found["type_counts"])), []).append(k)
    for members in groups.values():
        if len({numbers[k]["temperature_K"] for k in members}) > 1:
            own = [numbers[k] for k in members]
            for k, *entries in zip(members, _expansions(own), _isochore(own)):
                result[k] |= entries[0] | entries[1]
    return result


def _continued(numbers, attributes):
    """Per state its isotherm at the density of the state with the next higher pressure."""
    found = []
    for item, own in zip(numbers, attributes):
        alike = [
            other for other, theirs in zip(numbers, attributes)
            if "density_kg_m3" in item and "density_kg_m3" in other
            and other["temperature_K"] == item["temperature_K"]
            and theirs["type_counts"] == own["type_counts"]
            and other["pressure_bar"]["target"] > item["pressure_bar"]["target"]
        ]  # fmt: skip
        if not alike:
            found.append({})
            continue
        above = min(alike, key=lambda other: other["pressure_bar"]["target"])
        entry = {"to": above["id"], "set": above["pressure_bar"]["target"]}
        kappa, pressure = item.get("compressibility_1_bar", {}), item["pressure_bar"]["target"]
        for side in (side for side in ("reference", "model") if side in kappa):
            density = above["density_kg_m3"]
            rho = item["density_kg_m3"]
            value, error = _along(np.log(density[side]), rho, kappa, side, pressure)
            there = density[f"{side}_se"] / density[side] / kappa[side]
            entry |= {side: float(value), f"{side}_se": float(np.hypot(error, there))}
        found.append({"continued_bar": entry})
    return found


def _isochore(numbers):
    """Pressures of states of one isobar at one density, where two and more are within REACH."""
    middle = np.mean([item["temperature_K"] for item in numbers])
    nearest = min(numbers, key=lambda item: abs(item["temperature_K"] - middle))
    density = float(nearest["density_kg_m3"]["reference"])
    found = []
    for item in numbers:
        rho, kappa = item["density_kg_m3"], item.get("compressibility_1_bar", {})
        entry = {}
        for side in ("reference", "model"):
            if side in kappa and abs(np.log(density / rho[side])) <= thermodynamics.REACH:
                pressure = item["pressure_bar"]["target"]
                value, error = _along(np.log(density), rho, kappa, side, pressure)
                entry |= {side: float(value), f"{side}_se": float(error)}
        found.append({"isochore_bar": {"density_kg_m3": density, **entry}} if entry else {})
    return found if sum(map(bool, found)) > 1 else [{}] * len(numbers)


def _expansions(numbers):
    T, found = [item["temperature_K"] for item in numbers], [{} for _ in numbers]
    for side in ("reference", "model"):
        rows = [item["density_kg_m3"] for item in numbers]
        errors = [row[f"{side}_se"] for row in rows]
        expansion = thermodynamics.thermal_expansion(T, [row[side] for row in rows], errors)
        for k, entry in enumerate(found):
            alpha = float(expansion.alpha[k]), float(expansion.se[k])
            own = entry.setdefault("thermal_expansion_1_K", {})
            own |= {side: alpha[0], f"{side}_se": alpha[1]}
            kappa = numbers[k].get("compressibility_1_bar", {})
            if kappa.get(side):
                value = thermodynamics.thermal_pressure(alpha, (kappa[side], kappa[f"{side}_se"]))
                own = entry.setdefault("thermal_pressure_bar_K", {})
                own |= {side: value[0], f"{side}_se": value[1]}
    return found


def _isotherm(item):
    rho, kappa = item.get("density_kg_m3", {}), item.get("compressibility_1_bar", {})
    if not ({"reference", "model"} <= rho.keys() & kappa.keys()):
        return {}
    sides = [
        (rho[side], rho[f"{side}_se"], kappa[side], kappa[f"{side}_se"])
        for side in ("reference", "model")
    ]
    return {"isotherm_bar": thermodynamics.pressure_difference(*sides)._asdict()}


SCALARS = {
    "thermal expansion (1/K)": "thermal_expansion_1_K",
    "thermal pressure (bar/K)": "thermal_pressure_bar_K",
    "pressure along the isochore (bar)": "isochore_bar",
}
DIFFERENCES = (
    ("difference of isotherms, rms (bar)", "rms", "se"),
    ("difference of isotherms, rms by noise alone (bar)", "noise_floor", ""),
    ("difference of isotherms, mean (bar)", "mean", "mean_se"),
)
SIDES = [f"{side}{end}" for side in ("reference", "model") for end in ("", "_se")]
N_DENSITIES = 9  # of an isotherm


def write_equation_of_state(path, states):
    """``consistency/equation_of_state.tsv``: what its figure shows, of both sides with errors.

    Parameters
    ----------
    path : path
    states : list of dict
        As in ``consistency/states.json``.
    """
    rows = []
    for state in states:
        own, common = state.get("consistency", {}), [state["id"], state["temperature_K"]]
        for label, key in SCALARS.items():
            if key in own:
                density = own[key].get("density_kg_m3", "")
                rows.append([label, *common, density, *(own[key].get(k, "") for k in SIDES)])
        if "continued_bar" in own:
            found = own["continued_bar"]
            label = (
                f"pressure continued to the density of {found['to']}, {found['set']:g} bar (bar)"
            )
            rows.append([label, *common, "", *(found.get(k, "") for k in SIDES)])
        if "isotherm_bar" in own:
            for label, key, error in DIFFERENCES:
                found = own["isotherm_bar"]
                rows.append([label, *common, "", "", "", found[key], found.get(error, "")])
            points = isotherms(state, N_DENSITIES)
            rows += [["pressure along the isotherm (bar)", *common, *p] for p in zip(*points)]
    write_table(path, ["quantity", "state", "temperature_K", "density_kg_m3", *SIDES], rows)


def isotherms(state, n):
    """Isotherms of both sides around the density of the reference.

    Parameters
    ----------
    state : dict
        As in ``validate/states.json``, with density and compressibility of both sides.
    n : int

    Returns
    -------
    ndarray, shape (5, n)
        Density, kg/m3; pressure of the reference, its standard error, and those of the model, bar.
    """
    rho, kappa = state["density_kg_m3"], state["compressibility_1_bar"]
    x = np.linspace(-thermodynamics.WINDOW, thermodynamics.WINDOW, n) + np.log(rho["reference"])
    found = [np.exp(x)]
    for side in ("reference", "model"):
        found += _along(x, rho, kappa, side, state["pressure_bar"]["target"])
    return np.array(found)


def _along(log_density, rho, kappa, side, pressure):
    """(pressure at densities, its standard error) of one side, bar."""
    at = np.log(rho[side]), rho[f"{side}_se"] / rho[side]
    own = kappa[side], kappa[f"{side}_se"]
    return (
        thermodynamics.isotherm(log_density, at[0], own[0], pressure),
        thermodynamics.isotherm_error(log_density, *at, *own),
    )


def baselines(model, guess, states, targets, guess_samples, samples, validated):
    """The starting guess at every training state.

    Parameters
    ----------
    model, guess : Model
    states : sequence of remcg.config.State
    targets, samples : sequence of (dict, dict)
        Content of ``target/<state>.h5`` and ``predict/<state>.h5`` of all states.
    guess_samples : sequence of (dict, dict)
        Of the first iteration, training states in order.
    validated : list of dict
        The states as in ``validate/states.json``.

    Returns
    -------
    dict
        Name of the state to :class:`remcg.consistency.baseline.Baseline`.
    """
    if model.extra.get("status") == "direct":  # the guess is the model
        return {}
    numbers = {item["id"]: item for item in validated}
    training = [k for k, state in enumerate(states) if state.use == "train"]
    return {
        states[k].id: baseline.compare(
            targets[k], sample, samples[k], guess, model, numbers[states[k].id]
        )
        for k, sample in zip(training, guess_samples)
    }


def marked_points(validated, simpler, entropy_path):
    """Sampled models beside the front: :func:`remcg.consistency.tradeoff.points`.

    Parameters
    ----------
    validated : list of dict
    simpler : dict
        From :func:`baselines`.
    entropy_path : path
        ``model/relative_entropy.tsv``: of the guess above the last model sampled like it.
    """
    final, guess = [], []
    for state in validated:
        pressure = state["pressure_bar"]
        if state["id"] in simpler and "target" in pressure:
            final.append([pressure["model"] - pressure["target"], pressure["model_se"]])
            own = simpler[state["id"]].numbers["pair_pressure_bar"]
            guess.append([own["guess"] - pressure["target"], own["guess_se"]])
    if not final:
        return {}
    with open(entropy_path, newline="") as stream:
        first = next(iter(csv.DictReader(stream, delimiter="\t")), None)
    start = None
    # without an error the guess is the last of its stage, compared with itself
    if first and first["iteration"] == "0" and float(first["se"]) > 0.0:
        start = (*_root_mean_square(guess), float(first["nats_per_molecule"]), float(first["se"]))
    return tradeoff.points((*_root_mean_square(final), 0.0, 0.0), start)


def _root_mean_square(rows):
    """Of values with errors, and its standard error to first order."""
    value, error = np.transpose(rows)
    rms = float(np.sqrt(np.mean(value**2)))
    return rms, float(np.linalg.norm(value * error) / (len(value) * max(rms, 1e-12)))


def shared_mixture(states, ensembles, attributes):
    """The samples of all states as one mixture, in the order of temperature.

    Returns
    -------
    (list of int, remcg.reweight.Mixture) or None
        Where boxes of different content, or of fixed volumes, cannot share samples: None.
    """
    order = sorted(range(len(states)), key=lambda k: states[k].temperature)
    alike = {str(found["type_counts"]) for found in attributes}
    if len(order) < 2 or len(alike) > 1 or any(not s.pressure for s in states):
        return None
    try:
        return order, Mixture([ensembles[k] for k in order])
    except InputError as error:
        print(f"no reweighting between states: {error}")
        return None


def free_energies(states, ensembles, attributes, shared):
    """Excess free energies along the states that overlap, relative to the first of them.

    Parameters
    ----------
    shared : tuple or None
        From :func:`shared_mixture`.

    Returns
    -------
    list of dict
        state, relative_to, kT_per_molecule, se, overlap with the state before.
    """
    if shared is None:
        return []
    order, mixture = shared
    n, chosen = int(attributes[0]["n_molecules"]), [ensembles[k] for k in order]
    ideal = [thermodynamics.ideal_gas(n, e.coefficients[-1]) for e in chosen]
    values, errors = thermodynamics.free_energy_differences(
        mixture, [e.coefficients for e in chosen], ideal
    )
    overlaps, rows = mixture.overlap(), []
    for i, k in enumerate(order):
        overlap = float(overlaps[i, i - 1]) if i else 1.0
        if overlap < LEAST_OVERLAP:
            break
        rows.append(
            {
                "state": states[k].id,
                "relative_to": states[order[0]].id,
                "kT_per_molecule": float(values[i] / n),
                "se": float(errors[i] / n),
                "overlap": overlap,
            }
        )
    return rows


def reweighted_penalties(model, states, local, attributes, references, shared):
    """Penalties by reweighting: of every model but those of single states far away.

    Parameters
    ----------
    model : Model
    states : sequence of remcg.config.State
    local : list of transferability.LocalState
    attributes : list of dict
        Of the targets.
    references : list of ndarray, each (1, n_frames, n_phi + 1)
    shared : tuple or None
        From :func:`shared_mixture`.

    Returns
    -------
    dict
        (model, state where it is used): (Penalty, share of effective samples), of those pairs
        whose share is enough.
    """
    if shared is None:
        return {}
    order, mixture = shared
    weights, trained = _weights(states, attributes), [state.use == "train" for state in states]
    candidates = {}
    for k in order:
        noise = transferability.noise_of_model(local, model, trained, weights, k)
        candidates[k] = [("model", local[k].theta, noise)]
    for a, b in [*pairwise(order), *pairwise(order[::-1])]:
        noise = local[a].noise + local[b].noise
        candidates[b].append((f"{local[a].name} alone", local[a].best, noise))
    for name, k, chosen, designs, start in transferability.models(local, model, trained):
        fit = transferability.fitted(local, chosen, designs, weights, start, k)
        candidates[k].append((name, *fit))
    found = {}
    for k, rows in candidates.items():
        pressure, own = BAR * states[k].pressure, [row[1:] for row in rows]
        entries = transferability.reweighted_all(local, k, own, pressure, references[k], mixture)
        for (name, *_), entry in zip(rows, entries):
            if entry[1] >= transferability.ENOUGH:
                found[name, local[k].name] = entry
    return found


def write_penalty_table(path, table, local, reweighted=None):
    """``consistency/penalties.tsv``: one row per model and state where it is used.

    ``reweighted`` is of :func:`reweighted_penalties`.
    """
    sizes = {state.name: state.n_sites for state in local}
    exact = {key: [p.value, p.se, share] for key, (p, share) in (reweighted or {}).items()}
    rows = []
    for name, row in table.items():
        for used, p in row.items():
            own = [p.value, p.se, p.bias, p.null, p.p_value, p.value / sizes[used]]
            own += [p.se / sizes[used], "yes" if p.is_local else "no"]
            rows.append([name, used, *own, *exact.get((name, used), [""] * 3)])
    header = "model used_at nats se bias null_95 p_value nats_per_site nats_per_site_se is_local"
    header += " reweighted_nats reweighted_se effective_share"
    write_table(path, header.split(), rows)


def free_energy_numbers(rows):
    """Per state what ``summary.json`` says of the rows of :func:`free_energies`."""
    return {
        row["state"]: {"excess_free_energy": {k: v for k, v in row.items() if k != "state"}}
        for row in rows
    }


def write_free_energy_table(path, rows):
    """``consistency/free_energies.tsv``."""
    header = ["state", "relative_to", "kT_per_molecule", "se", "overlap"]
    write_table(path, header, [[row[name] for name in header] for row in rows])


def write_curve_table(path, curves, units):
    """``consistency/curves_<state>.tsv``: all curves of a state, one below the other."""
    rows = [
        [kind, name, side, *units[kind], *point]
        for (kind, name, side), curve in curves.items() for point in curve.T
    ]  # fmt: skip
    write_table(path, ["curve", "name", "side", "x_unit", "y_unit", "x", "y", "y_se"], rows)


def as_arrays(curves):
    """Curves by one name each, as an HDF5 file takes them."""
    return {"|".join(key): curve for key, curve in curves.items()}


def from_arrays(arrays):
    """Curves by (name, part) again from arrays named ``name|part``."""
    return {tuple(key.split("|")): curve for key, curve in arrays.items()}


def merged(numbers, states):
    """What ``consistency/states.json`` holds: all that is known of each state.

    Parameters
    ----------
    numbers : list of dict
        The states as in ``validate/states.json``.
    states : list of dict
        Numbers of the consistency of each state, with its id.

    Returns
    -------
    list of dict
        The states as they enter ``summary.json``, with ``consistency`` and
        ``penalty_nats_per_site``.
    """
    found = {item["id"]: item for item in states}
    result = []
    for item in numbers:
        own = {k: v for k, v in found.get(item["id"], {}).items() if k not in FACTS}
        penalty = own.get("penalty", {}).get("per_site")
        more = {"penalty_nats_per_site": penalty} if penalty else {}
        result.append({**item, **more, "consistency": own})
    return result


def penalty_numbers(table, local):
    """Per state what ``summary.json`` says of its penalty."""
    sizes = {state.name: state.n_sites for state in local}
    return {
        name: {
            "nats": p.value,
            "nats_se": p.se,
            "null_95": p.null,
            "p_value": p.p_value,
            "per_site": {"value": p.value / sizes[name], "se": p.se / sizes[name]},
        }
        for name, p in table["model"].items()
    }
