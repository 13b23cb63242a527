"""Known bonded and pair potentials are recovered together from a melt of chains that they make.

The short version trains trimers at two temperatures; the full ones (trimers of two site types,
tetramers with a dihedral) are run by `make verify`.
"""

import json
import sys

import h5py
import numpy as np
import pytest

import chains
import lennard_jones as lj
from recovery import Recovery, Settings, Truth, potential_error, quiet, state
from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.engine.replica import Start
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model, PairTerm
from remcg.pairs import rdf_edges
from remcg.topology import Topology
from remcg.uncertainty import virial_pressure_slopes
from remcg.units import KB

S = lj.SIGMA
CUTOFF = 2.5
STEP, FRICTION = 0.002 * lj.TAU, 2.0 / lj.TAU
TEMPERATURES = (1.0, 1.4)  # reduced
SIZES = {("A", "A"): (1.0, 1.0), ("A", "B"): (1.1, 0.95), ("B", "B"): (1.2, 0.9)}
BONDED = {
    "bond": lambda x: 0.5 * 4000.0 * (x - 0.97 * S) ** 2,
    "angle": lambda x: 0.5 * 25.0 * (x - 2.0) ** 2,
    "dihedral": lambda x: 1.0 + np.cos(3.0 * x) + 1.5 * np.cos(x) + 0.7 * np.sin(x),
}
TRUE_BASES = {
    "bond": BondBasis(0.2, 0.5, 100),
    "angle": AngleBasis(0.3, 150),
    "dihedral": PeriodicBasis(120),
}


def in_basis(basis, function):
    """Coefficients of a function on the range of the splines."""
    x = np.linspace(basis.low, basis.high, 20 * basis.n_basis)
    return np.linalg.lstsq(basis.values(x), function(x), rcond=None)[0][None]


def pair_in_basis(a, b, low=0.78):
    epsilon, sigma = SIZES[a, b]
    basis = SplineBasis(low * S, CUTOFF * S, round((CUTOFF - low) / 0.01) + 1)

    def energy(r):
        return lj.EPSILON * epsilon * lj.shifted(r / S / sigma, CUTOFF / sigma)

    return PairTerm((a, b), basis, 1), in_basis(basis, energy)


def true_model(kind):
    """Pair terms of all types in a chain such as "ABA", one term of each of its bonded tuples."""
    types = sorted(set(kind))
    found = [pair_in_basis(a, b) for i, a in enumerate(types) for b in types[i:]]
    classes = (BondTerm, AngleTerm, DihedralTerm)
    for n, cls in enumerate(classes[: len(kind) - 1], start=2):
        name = cls.kind
        tuples = {min(kind[k : k + n], kind[k : k + n][::-1]) for k in range(len(kind) - n + 1)}
        for sites in sorted(tuples):
            basis = TRUE_BASES[name]
            found.append((cls(tuple(sites), basis, 1), in_basis(basis, BONDED[name])))
    exclude = ("1-2", "1-3", "1-4")[: len(kind) - 1]
    model_terms, blocks = zip(*found)
    return Model(tuple(types), model_terms, lj.KELVIN, 1.0, blocks, exclude=exclude)


def melt(model, kind, n_side, temperature, density=0.75):
    """Straight chains along x on a lattice, molten at twice the temperature."""
    n_sites = n_side**3
    assert n_side % len(kind) == 0
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.lexsort((grid[:, 0], grid[:, 1], grid[:, 2]))]
    edge = S * (n_sites / density) ** (1 / 3)
    positions = (grid + 0.5) * edge / n_side
    positions += np.random.default_rng(4).normal(0.0, 0.03 * S, positions.shape)
    n = len(kind)
    bonds = [(k, k + 1) for k in range(n_sites - 1) if (k + 1) % n]
    types = [model.site_types.index(name) for name in kind] * (n_sites // n)
    topology = Topology.from_bonds(types, np.full(n_sites, lj.MASS), bonds)
    start = Start(positions, np.full(3, edge), None, topology)
    for step, heat, n_steps in ((0.2, 1.0, 2000), (1.0, 2.0, 4000), (1.0, 1.0, 4000)):
        end = quiet(
            model,
            start,
            heat * temperature * lj.KELVIN,
            n_steps=n_steps,
            n_equilibration=0,
            timestep=step * STEP,
            friction=FRICTION,
            sample_interval=n_steps,
        )
        start = Start(end["positions"], start.box, None, topology)
    return start


def learner(truth, n_basis):
    """The terms of the truth in fewer functions, from below the first sampled coordinate."""
    found = []
    for term in truth.terms:
        if term.kind == "pair":
            low = 0.87 * SIZES[term.sites][1] * S
            basis = SplineBasis(low, CUTOFF * S, n_basis["pair"])
        elif term.kind == "bond":
            basis = BondBasis(0.97 * S - 0.08, 0.97 * S + 0.08, n_basis["bond"])
        elif term.kind == "angle":
            basis = AngleBasis(1.0, n_basis["angle"])
        else:
            basis = PeriodicBasis(n_basis["dihedral"])
        found.append(type(term)(term.sites, basis, 1))
    return found


def test_the_pressure_of_molecules_is_the_ideal_one_and_its_slopes_times_the_coefficients():
    model, temperature = true_model("ABA"), TEMPERATURES[0]
    start = melt(model, "ABA", 9, temperature)
    result = quiet(
        model,
        start,
        temperature * lj.KELVIN,
        n_steps=4000,
        n_equilibration=0,
        timestep=STEP,
        friction=FRICTION,
        sample_interval=2,
        rdf_edges=rdf_edges(CUTOFF * S, 0.002),
    )
    counts = {"A": 2 * start.topology.n_molecules, "B": start.topology.n_molecules}
    volume, g = start.volume, result["rdf_blocks"].mean(axis=0)
    edges = rdf_edges(CUTOFF * S, 0.002)
    theta = model.theta(temperature * lj.KELVIN)
    ideal = start.topology.n_molecules * KB * temperature * lj.KELVIN / volume
    of_sites = virial_pressure_slopes(model, edges, g, volume, counts) @ theta
    of_molecules = virial_pressure_slopes(model, edges, g, volume, counts, result["levers"]) @ theta
    expected = result["pressure"].mean() - ideal
    assert of_molecules == pytest.approx(expected, abs=0.03 * ideal)
    assert abs(of_sites - expected) > 0.3 * ideal


def bonded_errors(truth, found, temperature, target):
    """Per bonded term p-weighted rms of U_found - U_true and of U_true, kT; standard errors.

    Constants are taken away. Only coordinates with a density above 1 % of the largest count for
    the errors in units of their standard errors.
    """
    errors = {}
    covariance = np.asarray(found.extra["covariance"])
    with h5py.File(target, "r") as file:
        for term, part in zip(found.terms, found.parameter_slices):
            if term.kind == "pair":
                continue
            name = f"bonded_{term.kind}_{term.name}"
            edges, density = file[f"{name}_edges"][()], file[f"{name}_blocks"][()].mean(axis=0)
            x, p = 0.5 * (edges[1:] + edges[:-1]), density / density.sum()
            true_term = truth.terms[
                [(t.kind, t.name) for t in truth.terms].index((term.kind, term.name))
            ]
            theta = truth.term_theta(temperature)[truth.terms.index(true_term)]
            true = true_term.basis.values(x) @ theta
            values = term.basis.values(x) - p @ term.basis.values(x)
            step = values @ found.parameters[part] - (true - p @ true)
            se = np.sqrt(np.einsum("xk,kl,xl->x", values, covariance[part, part], values))
            met = p > 0.01 * p.max()
            errors[f"{term.kind} {term.name}"] = {
                "rms_kT": float(np.sqrt(p @ step**2) / (KB * temperature)),
                "share": float(np.sqrt(p @ step**2 / (p @ (true - p @ true) ** 2))),
                "z_rms": float(np.sqrt(np.mean((step[met] / se[met]) ** 2))),
                "n_functions": term.n_basis,
            }
    return errors


def pair_errors(truth, found, temperature, target):
    """Per pair term :func:`potential_error`, and the rms of U_found - U_true in standard errors.

    The latter where g > 0.1. Nothing is taken away: potentials vanish at the cut-off.
    """
    rms = potential_error(truth, found, temperature, target)
    covariance, errors = np.asarray(found.extra["covariance"]), {}
    with h5py.File(target, "r") as file:
        edges, rdfs = file["rdf_fine_edges"][()], file["rdf_fine"][()]
        names = json.loads(file.attrs["pair_names"])
    r = 0.5 * (edges[1:] + edges[:-1])
    for term, part in zip(found.terms, found.parameter_slices):
        if term.kind != "pair":
            continue
        index = [(t.kind, t.name) for t in truth.terms].index(("pair", term.name))
        met = (rdfs[names.index(term.name)] > 0.1) & (r < term.basis.r_cut - term.basis.spacing)
        values = term.basis.values(r[met])
        true = truth.terms[index].basis.values(r[met]) @ truth.term_theta(temperature)[index]
        step = values @ found.parameters[part] - true
        se = np.sqrt(np.einsum("xk,kl,xl->x", values, covariance[part, part], values))
        z_rms = float(np.sqrt(np.mean((step / se) ** 2)))
        errors[term.name] = {"rms_kT": rms[term.name], "z_rms": z_rms}
    return errors


def case(kind, n_side, temperatures=TEMPERATURES):
    model = true_model(kind)
    starts = [melt(model, kind, n_side, t) for t in temperatures]
    states = [state(f"T{k}", t * lj.KELVIN) for k, t in enumerate(temperatures)]
    return Truth(model, states, starts, STEP, FRICTION)


def recovered(folder, truth, n_basis, settings, n_rounds):
    """The finished recovery, and errors of bonded and pair terms at each temperature."""
    recovery = Recovery(folder, truth, learner(truth.model, n_basis), settings)
    recovery.run(n_rounds)
    final = recovery.finished()
    errors = [
        [of(truth.model, final, state.temperature, path) for of in (bonded_errors, pair_errors)]
        for state, path in zip(truth.states, recovery.targets)
    ]
    return recovery, *zip(*errors)


def test_bonds_angles_and_pairs_of_trimers_are_recovered_at_two_temperatures(tmp_path):
    truth = case("AAA", 6)
    settings = Settings(n_frames=500, frame_interval=40, n_steps=6000, n_equilibration=1000)
    recovery, of_bonded, of_pairs = recovered(
        tmp_path, truth, {"pair": 24, "bond": 9, "angle": 12}, settings, 8
    )
    print(json.dumps({"bonded": of_bonded, "pairs": of_pairs}, indent=1), file=sys.stderr)
    assert recovery.plans[-1]["stage"] == "local"
    for bonded, pairs in zip(of_bonded, of_pairs):
        assert pairs["A-A"]["rms_kT"] < 0.06 and pairs["A-A"]["z_rms"] < 3.0
        for found in bonded.values():
            assert found["share"] < 0.05 and found["z_rms"] < 3.0


FULL = {  # kind: sites along an edge, functions
    "ABA": (9, {"pair": 26, "bond": 10, "angle": 14}),
    "ABBA": (8, {"pair": 26, "bond": 10, "angle": 14, "dihedral": 14}),
}


@pytest.mark.verify
@pytest.mark.parametrize("kind", FULL)
def test_every_term_of_a_melt_is_recovered_within_its_errors_and_3_percent(tmp_path, kind):
    n_side, n_basis = FULL[kind]
    truth = case(kind, n_side)
    settings = Settings(n_frames=6000, frame_interval=40, n_steps=40_000, n_equilibration=2000)
    recovery, of_bonded, of_pairs = recovered(tmp_path, truth, n_basis, settings, 10)
    print(kind, len(recovery.plans), "rounds")
    print(json.dumps({"bonded": of_bonded, "pairs": of_pairs}, indent=1))
    for each, bonded, pairs in zip(truth.states, of_bonded, of_pairs):
        for found in bonded.values():
            assert found["share"] < 0.03 and found["z_rms"] < 3.0
        for name, found in pairs.items():
            depth = SIZES[tuple(name.split("-"))][0]
            assert found["rms_kT"] * KB * each.temperature < 0.03 * depth
            assert found["z_rms"] < 3.0


@pytest.mark.verify
def test_the_terms_of_one_chain_alone_are_recovered_within_their_errors(tmp_path):
    """Seven sites in a vacuum: its pairs begin without attraction and are met rarely."""
    kind = "BAAAAAB"
    model, n = true_model(kind), len(kind)
    rng = np.random.default_rng(0)
    positions = chains.built(
        np.full(n - 1, 0.97 * S), np.full(n - 2, 2.0), rng.uniform(-3.0, 3.0, n - 3)
    )
    bonds = [(k, k + 1) for k in range(n - 1)]
    types = [model.site_types.index(name) for name in kind]
    topology = Topology.from_bonds(types, np.full(n, lj.MASS), bonds)
    start = Start(positions + 2.0, np.full(3, 6.0), None, topology)
    states = [state(f"T{k}", t * lj.KELVIN) for k, t in enumerate(TEMPERATURES)]
    truth = Truth(model, states, [start] * 2, STEP, FRICTION)
    settings = Settings(4000, 200, 400_000, 5000, sample_interval=100)
    n_basis = {"pair": 16, "bond": 10, "angle": 12, "dihedral": 14}
    recovery, of_bonded, _ = recovered(tmp_path, truth, n_basis, settings, 6)
    print(json.dumps(of_bonded, indent=1))
    assert all(plan["stage"] == "local" for plan in recovery.plans)
    for found in of_bonded[0].values():
        assert found["share"] < 0.15 and found["z_rms"] < 3.0
