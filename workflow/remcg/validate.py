"""Comparison of a prediction with its reference: structure, density, compressibility, pressure."""

import json
from dataclasses import dataclass, field, replace

import numpy as np

from remcg import distributions, uncertainty
from remcg.consistency.divergence import beside_plug_in
from remcg.ensembles import mean_levers
from remcg.errors import InputError
from remcg.guess import bin_jacobians
from remcg.identify import UNIT, labelled
from remcg.io import read_h5, write_json, write_text
from remcg.model import ORDER_LETTERS
from remcg.pairs import number_of_pairs
from remcg.statistics import block_mean, standard_error
from remcg.units import BAR, KB, KG_M3

G_ONSET = 0.01  # a comparison of RDFs begins where the reference exceeds this
EDGE_TOLERANCE = 1e-6  # nm, when bin edges are compared with each other or with r_cut
BONDED_POINTS = 400  # of a bonded potential in tables and figures


@dataclass(frozen=True)
class RdfPair:
    """Reference and model g(r) of one pair, each as blocks of consecutive frames.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), nm
    reference, model : ndarray, shape (n_blocks, n_bins)
        The two sides may have different numbers of blocks.
    parameter_se : ndarray, shape (n_bins,)
        What the errors of the parameters add to that of the model; zero where not known.
    """

    edges: np.ndarray
    reference: np.ndarray
    model: np.ndarray
    parameter_se: np.ndarray | float = 0.0

    @property
    def centers(self):
        """Centres of the bins, (n_bins,), nm."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


@dataclass(frozen=True)
class StateResult:
    """One state's numbers as they enter ``summary.json``; its RDFs and bonded distributions for
    tables and figures."""

    numbers: dict
    curves: dict
    distributions: dict = field(default_factory=dict)


def rdf_window(pair, r_cut):
    """Mask of the compared bins: from the first with reference g > 0.01 up to r_cut."""
    inside = pair.edges[1:] <= r_cut + EDGE_TOLERANCE
    return inside & (np.cumsum(pair.reference.mean(axis=0) > G_ONSET) > 0)


def rdf_errors(pair, r_cut):
    r"""How far the model's g(r) is from the reference.

    With d the difference of the two mean RDFs in the bins of :func:`rdf_window`,

    .. math:: rmse = \sqrt{\langle d^2\rangle_{bins}}, \quad
              noise = \sqrt{\langle s_{ref}^2 + s_{model}^2\rangle_{bins}}

    where s are standard errors from blocks. A perfect model has rmse near the noise floor, not
    zero. The standard error of the rmse is a jackknife over the blocks of both sides.

    Parameters
    ----------
    pair : RdfPair
    r_cut : float
        nm.

    Returns
    -------
    dict
        rmse, rmse_se, max, max_se (of the bin where it is largest), noise_floor_rmse, js_bits;
        empty if the reference never exceeds 0.01.
    """
    reference, reference_se = block_mean(pair.reference)
    model, model_se = block_mean(pair.model)
    window = rdf_window(pair, r_cut)
    if not window.any():
        return {}
    difference, errors = (model - reference)[window], np.hypot(reference_se, model_se)[window]
    largest = np.abs(difference).argmax()
    left_out = [
        _leave_one_out(pair.model)[:, window] - reference[window],
        model[window] - _leave_one_out(pair.reference)[:, window],
    ]
    return {
        "rmse": _rms(difference),
        "rmse_se": np.sqrt(sum(_jackknife_variance(_rms(sample)) for sample in left_out)),
        "max": np.abs(difference[largest]),
        "max_se": errors[largest],
        "noise_floor_rmse": _rms(errors),
        "js_bits": pair_distance_divergence(pair.edges, reference, model, r_cut),
    }


def rdf_divergences(pair, r_cut):
    """Divergences of the pair-distance distributions below r_cut with bias, error and noise floor.

    Parameters
    ----------
    pair : RdfPair
    r_cut : float
        nm.

    Returns
    -------
    dict
        excess_js_bits, js_bits_se, js_bits_bias, noise_floor_js_bits and the same of kl_bits, see
        :func:`remcg.consistency.divergence.beside_plug_in`; split_half_rmse: of g(r) of the halves
        of the reference, in the bins of :func:`rdf_window`.
    """
    inside = pair.edges[1:] <= r_cut + EDGE_TOLERANCE
    window = rdf_window(pair, r_cut)
    if not window.any():
        return {}
    shells = np.diff(pair.edges**3)[inside]
    found = beside_plug_in(pair.reference[:, inside] * shells, pair.model[:, inside] * shells)
    found = {key: value for key, value in found.items() if "_bits" in key}  # g has its own rmse
    if len(pair.reference) > 1:
        found["split_half_rmse"] = distributions.noise_floor(
            pair.reference[:, window], lambda a, b: _rms(b - a)
        )
    return found


def pair_distance_divergence(edges, reference, model, r_cut):
    r"""Jensen-Shannon divergence of the pair-distance distributions below r_cut, bits.

    .. math:: p_b = \frac{g_b v_b}{\sum_b g_b v_b}, \quad v_b = \tfrac{4\pi}{3}(r_{b+1}^3 - r_b^3),
        \quad JS = \tfrac12 KL(p\,\|\,m) + \tfrac12 KL(q\,\|\,m), \quad m = \tfrac12 (p + q)

    It is 0 for equal and 1 for disjoint distributions.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,), nm
    reference, model : ndarray, shape (n_bins,)
        g(r) of the two sides.
    r_cut : float
        nm.
    """
    inside = edges[1:] <= r_cut + EDGE_TOLERANCE
    shells = np.diff(edges**3)[inside]
    return distributions.jensen_shannon(reference[inside] * shells, model[inside] * shells)


def density(volume, n_molecules, mass_per_molecule):
    """Mean density m N/<V> and its standard error, kg/m3.

    Parameters
    ----------
    volume : ndarray, shape (n_replicas, n_samples), nm^3
        Correlated in time; the error counts decorrelated samples, with the correlation taken about
        the mean of all replicas, so that replicas that disagree widen it.
    n_molecules : int
    mass_per_molecule : float
        amu.
    """
    mean, error = standard_error(volume)
    value = n_molecules * mass_per_molecule / mean * KG_M3
    return value, value * error / mean


def compressibility(volume, temperature):
    r"""Isothermal compressibility and its standard error, 1/bar.

    .. math:: \kappa_T = \frac{\mathrm{Var}\,V}{kT\langle V\rangle}

    The variance is corrected for the number of decorrelated samples, n/(n - 1). The error is the
    infinitesimal jackknife: the standard error of the mean of the influence function,
    :math:`\delta V^2/\mathrm{Var}\,V - 1 - \delta V/\langle V\rangle` relative to kappa, which has
    its own correlation time.

    Parameters
    ----------
    volume : ndarray, shape (n_replicas, n_samples), nm^3
    temperature : float
        K.
    """
    mean, error = standard_error(volume)
    variance = volume.var()
    n_effective = max(variance / error**2, 2.0)
    deviation = volume - mean
    influence = deviation**2 / variance - 1.0 - deviation / mean
    value = variance * BAR / (KB * temperature * mean) * n_effective / (n_effective - 1.0)
    return value, value * standard_error(influence)[1]


def model_pressure(pressure, volume, model, n_molecules, temperature):
    """Instantaneous pressure of the model with its volume term, bar, shape as ``pressure``.

    Parameters
    ----------
    pressure : ndarray
        Kinetic and pair virial part, kJ/mol/nm^3.
    volume : ndarray
        nm^3.
    """
    return (pressure + model.volume_pressure(volume, n_molecules, temperature)) / BAR


def rdf_pairs(target_arrays, target_attrs, sample_arrays):
    """RDFs of both sides by pair name: dict of RdfPair."""
    edges, sampled = target_arrays["rdf_edges"], sample_arrays["rdf_edges"]
    if edges.shape != sampled.shape or not np.allclose(edges, sampled, atol=EDGE_TOLERANCE):
        raise InputError(
            f"The RDF bins of reference and prediction differ ({len(edges) - 1} bins up to "
            f"{edges[-1]:g} nm and {len(sampled) - 1} up to {sampled[-1]:g} nm), so they cannot be "
            "compared; remove the folders target/ and predict/ of the campaign and run it again."
        )
    reference, model = target_arrays["rdf_blocks"], sample_arrays["rdf_blocks"]
    model = model.reshape(-1, *model.shape[-2:])
    names = json.loads(target_attrs["pair_names"])
    return {name: RdfPair(edges, reference[:, i], model[:, i]) for i, name in enumerate(names)}


def compare_state(target_arrays, target_attrs, sample_arrays, sample_attrs, model):
    """All numbers of one state: prediction against reference.

    Parameters
    ----------
    target_arrays, target_attrs : dict
        Content of ``target/<state>.h5``.
    sample_arrays, sample_attrs : dict
        Content of ``predict/<state>.h5``.
    model : Model

    Returns
    -------
    dict
        temperature_K; rdf (per pair, see :func:`rdf_errors` and :func:`rdf_divergences`);
        pressure_bar {target, model, model_se}; kinetic_temperature_K {model, model_se}; at constant
        pressure also density_kg_m3 and compressibility_1_bar {reference, reference_se, model,
        model_se}. A pressure without target belongs to a state at constant volume, a
        compressibility without reference to a reference whose volume does not change.
    """
    temperature = float(sample_attrs["temperature"])
    n_molecules = int(target_attrs["n_molecules"])
    reference = target_arrays.get("log_volume", target_arrays["volume"])
    volumes = {"reference": reference[None, :], "model": sample_arrays["volume"]}
    numbers = {
        "temperature_K": temperature,
        "rdf": _all_rdf_errors(target_arrays, target_attrs, sample_arrays, model),
    }
    if sample_attrs["ensemble"] == "NPT":
        numbers["pressure_bar"] = {"target": float(sample_attrs["pressure_bar"])}
        mass = float(target_attrs["mass_per_molecule"])
        numbers["density_kg_m3"] = _both(density, volumes, n_molecules, mass)
        varying = {side: volume for side, volume in volumes.items() if np.ptp(volume) > 0}
        numbers["compressibility_1_bar"] = _both(compressibility, varying, temperature)
    pressure = model_pressure(
        sample_arrays["pressure"], sample_arrays["volume"], model, n_molecules, temperature
    )
    numbers.setdefault("pressure_bar", {}).update(_estimate("model", standard_error(pressure)))
    kinetic = standard_error(sample_arrays["temperature"])
    return {**numbers, "kinetic_temperature_K": _estimate("model", kinetic)}


def potential_curves(model, temperatures, spacing=0.002):
    """Pair potentials on a grid, with standard errors if the model carries its covariance.

    Parameters
    ----------
    model : Model
        ``model.extra["covariance"]``, shape (n_params, n_params), is used if present.
    temperatures : sequence of float
        K.
    spacing : float
        nm.

    Returns
    -------
    dict
        Per pair {"r": nm, "A": (value, se), "B": ..., "C": ..., "U": {temperature: (value, se)}} in
        kJ/mol; se is None without covariance.
    """
    curves = {}
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        if term.kind != "pair":
            continue
        n_points = round((term.basis.r_cut - term.basis.r_min) / spacing) + 1
        r = np.linspace(term.basis.r_min, term.basis.r_cut, n_points)
        values = term.basis.values(r)
        curves[term.name] = {
            "r": r,
            **{
                letter: _linear(model, jacobian, part)
                for letter, jacobian in _orders(term, values).items()
            },
            "U": {
                float(T): _linear(model, values @ model.design(T)[rows, part], part)
                for T in temperatures
            },
        }
    return curves


def _orders(term, values):
    """Jacobians of A, B, ... with respect to the parameters of a term."""
    return {
        letter: np.kron(row, values)
        for letter, row in zip(ORDER_LETTERS, np.eye(term.n_orders), strict=False)
    }


def bonded_curves(model, temperatures, n_points=BONDED_POINTS):
    """Bonded potentials on a grid over their range, like :func:`potential_curves`.

    A constant acts on nothing, so each curve is less its mean at the Boltzmann probabilities that
    it has by itself at the mean temperature, and standard errors are those of what is left; U is
    then shifted to a minimum of zero.

    Returns
    -------
    dict
        Per label {"kind", "x": nm or rad, "A": (value, se), ..., "U": {temperature: (value, se)}}.
    """
    curves = {}
    middle = float(np.mean(temperatures))
    for (label, term), rows, part in zip(labelled(model), model.phi_slices, model.parameter_slices):
        if term.kind in ("pair", "volume"):
            continue
        edges = np.linspace(term.basis.low, term.basis.high, n_points + 1)
        x = 0.5 * (edges[1:] + edges[:-1])
        values = term.basis.values(x)
        energy = values @ model.theta(middle)[rows] / (KB * middle)
        weight = bin_jacobians(term.kind, edges) * np.exp(energy.min() - energy)
        values = values - weight @ values / weight.sum()
        of_states = {T: values @ model.design(T)[rows, part] for T in map(float, temperatures)}
        found = {T: _linear(model, jacobian, part) for T, jacobian in of_states.items()}
        curves[label] = {
            "kind": term.kind,
            "x": x,
            **{
                letter: _linear(model, jacobian, part)
                for letter, jacobian in _orders(term, values).items()
            },
            "U": {T: (value - value.min(), error) for T, (value, error) in found.items()},
        }
    return curves


def read_state(state_id, use, target_path, sample_path, model):
    """Compare the files of one state.

    Parameters
    ----------
    state_id : str
    use : str
        "train" or "test".
    target_path, sample_path : path
        ``target/<state>.h5`` and ``predict/<state>.h5``.
    model : Model

    Returns
    -------
    StateResult
    """
    target, sample = read_h5(target_path), read_h5(sample_path)
    numbers = compare_state(*target, *sample, model)
    pairs = rdf_pairs(*target, sample[0])
    bonded = distributions.compare(*target, *sample)
    numbers |= distributions.numbers(bonded)
    if "covariance" in model.extra:
        errors = parameter_errors(model, json.loads(target[1]["type_counts"]), *sample)
        for key in {"density_kg_m3", "pressure_bar"} & numbers.keys():
            numbers[key]["parameter_se"] = errors[key](numbers[key]["model"])
        pairs = {name: replace(p, parameter_se=errors["rdf"](name, p)) for name, p in pairs.items()}
    return StateResult({"id": state_id, "use": use, **numbers}, pairs, bonded)


def parameter_errors(model, type_counts, arrays, attributes):
    """Functions that give what the errors of the parameters add to those of a prediction.

    Linear response of the prediction's own samples to the parameters; the pressure is that at
    fixed volume.

    Parameters
    ----------
    model : Model
        With its covariance.
    type_counts : dict
    arrays, attributes : dict
        Content of ``predict/<state>.h5``.

    Returns
    -------
    dict
        "density_kg_m3", "pressure_bar": from the value in these units; "rdf": from the name of a
        pair and its :class:`RdfPair`.
    """
    covariance = np.asarray(model.extra["covariance"])
    temperature, n_molecules = float(attributes["temperature"]), int(attributes["n_molecules"])
    design, volume = model.design(temperature), arrays["volume"]
    phi = model.basis_sums(arrays["site_sums"], volume, n_molecules)

    def of_density(value):
        slopes = uncertainty.density_response(volume, phi, temperature, value)
        return float(uncertainty.standard_errors(slopes @ design, covariance))

    def of_pressure(_):
        g, edges = arrays["rdf_blocks"].mean(axis=(0, 1)), arrays["rdf_edges"]
        levers = mean_levers(arrays)
        direct = uncertainty.virial_pressure_slopes(
            model, edges, g, volume.mean(), type_counts, levers
        )
        direct += uncertainty.volume_pressure_slopes(model, volume.mean(), n_molecules)
        total = arrays["pressure"] + model.volume_pressure(volume, n_molecules, temperature)
        slopes = uncertainty.pressure_response(total, phi, temperature, direct, volume)
        return float(uncertainty.standard_errors(slopes @ design, covariance) / BAR)

    def of_rdf(name, pair):
        for term, rows in zip(model.terms, model.phi_slices):
            if term.kind == "pair" and set(term.name.split("-")) == set(name.split("-")):
                n_pairs = number_of_pairs(term.sites, type_counts)
                slopes = uncertainty.rdf_response(
                    term,
                    phi[..., rows],
                    volume,
                    n_pairs,
                    pair.edges,
                    pair.model.mean(axis=0),
                    phi,
                    temperature,
                )
                return uncertainty.standard_errors(slopes @ design, covariance)
        return 0.0

    return {"density_kg_m3": of_density, "pressure_bar": of_pressure, "rdf": of_rdf}


def write_numbers(path, results):
    """``validate/states.json``: the states as they enter ``summary.json``."""
    write_json(path, [result.numbers for result in results])


def write_state_table(path, results):
    """``validate/states.tsv``: one row per state, one column per number that any state has."""
    rows = [dict(_flatten(result.numbers)) for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_table(path, columns, [[row.get(name, "") for name in columns] for row in rows])


RDF_COLUMNS = (
    *("pair", "r_nm", "g_reference", "g_reference_se", "g_model", "g_model_se"),
    "g_parameter_se",
)
BONDED_COLUMNS = (
    *("kind", "name", "unit", "x"),
    *("p_reference", "p_reference_se", "p_model", "p_model_se"),
)


def write_rdf_table(path, curves):
    """``validate/rdf_<state>.tsv``: g(r) of both sides with standard errors, r at bin centres."""
    write_table(path, RDF_COLUMNS, rdf_rows(curves))


def write_rdf_tables(path, results):
    """``validate/rdf_states.tsv``: the same of all states, which are its first column."""
    rows = [[each.numbers["id"], *row] for each in results for row in rdf_rows(each.curves)]
    write_table(path, ["state", *RDF_COLUMNS], rows)


def rdf_rows(curves):
    """Rows of the table of RDFs: pair, place, both curves with errors, error by parameters."""
    rows = []
    for name, pair in curves.items():
        added = np.broadcast_to(pair.parameter_se, pair.centers.shape)
        columns = (pair.centers, *block_mean(pair.reference), *block_mean(pair.model), added)
        rows += [[name, *row] for row in zip(*columns)]
    return rows


def write_bonded_table(path, distributions):
    """``validate/bonded_<state>.tsv``: distributions of both sides with standard errors."""
    write_table(path, BONDED_COLUMNS, bonded_rows(distributions))


def write_bonded_tables(path, results):
    """``validate/bonded_states.tsv``: the same of all states, which are its first column."""
    rows = [
        [each.numbers["id"], *row] for each in results for row in bonded_rows(each.distributions)
    ]
    write_table(path, ["state", *BONDED_COLUMNS], rows)


def bonded_rows(distributions):
    """Rows of the table of bonded distributions: kind, term, unit, place, and both densities."""
    rows = []
    for item in distributions.values():
        columns = (item.centers, *block_mean(item.reference), *block_mean(item.model))
        unit = UNIT.get(item.kind, "nm")
        rows += [[item.kind, item.name, unit, *row] for row in zip(*columns)]
    return rows


def write_bonded_potential_table(path, curves):
    """``validate/bonded_potentials.tsv``: x, A, B (C) and U at each temperature, kJ/mol."""
    named = {
        label: {"kind": curve["kind"], "unit": UNIT[curve["kind"]], **_potential_columns(curve)}
        for label, curve in curves.items()
    }
    header = list(dict.fromkeys(column for table in named.values() for column in table))
    rows = []
    for label, table in named.items():
        n = len(table["x"])
        filled = [
            [table[column]] * n
            if isinstance(table.get(column), str)
            else table.get(column, [""] * n)
            for column in header
        ]
        rows += [[label, *row] for row in zip(*filled)]
    write_table(path, ["term", *header], rows)


def write_potential_table(path, curves):
    """``validate/potentials.tsv``: A, B (C) and U at each temperature, kJ/mol."""
    tables = {name: _potential_columns(curve) for name, curve in curves.items()}
    header = list(dict.fromkeys(column for table in tables.values() for column in table))
    rows = []
    for name, table in tables.items():
        filled = [table.get(column, [""] * len(table["r_nm"])) for column in header]
        rows += [[name, *row] for row in zip(*filled)]
    write_table(path, ["pair", *header], rows)


def write_convergence_table(path, updates):
    """``validate/convergence.tsv``: what the figure of the optimisation's course shows.

    Parameters
    ----------
    path : path
    updates : list of dict
        The ``update.json`` of each iteration.
    """
    names = list(dict.fromkeys(name for update in updates for name in update.get("states", {})))
    columns = ("chi2_per_dof", "threshold", "predicted_kl")
    of_states = ("volume", "volume_se", "volume_reference", "rdf_rmse")
    rows = []
    for iteration, update in zip(*sampled_iterations(updates)):
        row = [f"{iteration}", str(update.get("sampled", update).get("phase", ""))]
        row += [_known(update, key) for key in columns]
        row += [_known(update.get("states", {}).get(n, {}), k) for n in names for k in of_states]
        rows.append(row)
    header = ["iteration", "ensemble", *columns, *(f"{n}.{k}" for n in names for k in of_states)]
    write_table(path, header, rows)


def sampled_iterations(updates):
    """(iterations whose samples the updates looked at, these updates).

    An update that begins iteration k saw the samples of iteration k - 1; the first one saw none.
    """
    found = [update for update in updates if update.get("iteration", 0) > 0]
    return [update["iteration"] - 1 for update in found], found


def _known(item, key):
    return "" if item.get(key) is None else item[key]


def write_table(path, header, rows):
    """Tab-separated text; an empty cell is a quantity that does not exist."""
    lines = ["\t".join(header), *("\t".join(_cell(item) for item in row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def _all_rdf_errors(target_arrays, target_attrs, sample_arrays, model):
    cuts = {term.name: term.basis.r_cut for term in model.pair_terms}
    pairs = rdf_pairs(target_arrays, target_attrs, sample_arrays)
    errors = {
        name: rdf_errors(pair, cuts[name]) | rdf_divergences(pair, cuts[name])
        for name, pair in pairs.items() if name in cuts
    }  # fmt: skip
    return {name: entry for name, entry in errors.items() if entry}


def _both(observable, volumes, *arguments):
    return {
        key: value
        for side, volume in volumes.items()
        for key, value in _estimate(side, observable(volume, *arguments)).items()
    }


def _estimate(name, value_and_error):
    value, error = value_and_error
    return {name: float(value), f"{name}_se": float(error)}


def _rms(values):
    return np.sqrt((values**2).mean(axis=-1))


def _leave_one_out(blocks):
    return (blocks.sum(axis=0) - blocks) / (len(blocks) - 1)


def _jackknife_variance(values):
    return (len(values) - 1) * values.var()


def _linear(model, jacobian, part):
    value = jacobian @ model.parameters[part]
    if "covariance" not in model.extra:
        return value, None
    covariance = np.asarray(model.extra["covariance"], float)[part, part]
    variance = np.einsum("ik,kl,il->i", jacobian, covariance, jacobian)
    return value, np.sqrt(np.maximum(variance, 0.0))


def _potential_columns(curve):
    named = {letter: curve[letter] for letter in ORDER_LETTERS if letter in curve}
    named |= {f"U_{temperature:g}K": item for temperature, item in curve["U"].items()}
    columns = {"r_nm": curve["r"]} if "r" in curve else {"x": curve["x"]}
    for name, (value, error) in named.items():
        columns[name] = value
        if error is not None:
            columns[f"{name}_se"] = error
    return columns


def _flatten(item, prefix=""):
    for key, value in item.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cell(item):
    return item if isinstance(item, str) else f"{item:.8g}"
