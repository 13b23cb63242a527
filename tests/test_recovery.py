"""Henderson's theorem at work: a potential is recovered from the structure that it makes.

Short version; those of issue size are in test_verify.py.
"""

import numpy as np

import lennard_jones as lj
from recovery import Recovery, Settings, Truth, potential_error, quiet, state
from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.model import Model, PairTerm
from remcg.topology import Topology
from remcg.units import KB


def lennard_jones_case(n_sites, temperatures=(1.0,), density=0.8):
    """The shifted Lennard-Jones fluid, 2.5 sigma, one state per reduced temperature."""
    starts = [lj.melt(2.5, density, t, n_sites) for t in temperatures]
    states = [state(f"T{i}", t * lj.KELVIN) for i, t in enumerate(temperatures)]
    return Truth(lj.model(2.5), states, starts, 0.004 * lj.TAU, lj.FRICTION / lj.TAU)


def lennard_jones_term(n_basis, n_orders=1):
    """A coarser spline than the truth's own, from below the first sampled distance."""
    basis = SplineBasis(0.87 * lj.SIGMA, 2.5 * lj.SIGMA, n_basis)
    return PairTerm(("A", "A"), basis, n_orders)


def spline_model(sites, potentials, temperature):
    """A model whose pair potentials are given functions of r (nm, kJ/mol), faded out at r_cut.

    ``potentials`` maps a pair to (function, r_min, r_cut); splines of 0.0025 nm hold them.
    """
    terms, blocks = [], []
    for pair, (function, r_min, r_cut) in potentials.items():
        basis = SplineBasis(r_min, r_cut, round((r_cut - r_min) / 0.0025) + 1)
        r = np.linspace(r_min, r_cut, 8 * basis.n_basis)
        u = np.clip((r_cut - r) / (0.1 * r_cut), 0.0, 1.0)
        faded = function(r) * u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
        terms.append(PairTerm(pair, basis, 1))
        blocks.append(np.linalg.lstsq(basis.values(r), faded, rcond=None)[0][None])
    return Model(tuple(sites), tuple(terms), temperature, 1.0, tuple(blocks))


def melted(model, types, density, temperature, timestep, friction):
    """A liquid start of sites at a number density (nm^-3), from a hot lattice."""
    n_side = int(np.ceil(len(types) ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3), axis=-1).reshape(-1, 3)[: len(types)]
    edge = (len(types) / density) ** (1 / 3)
    rng = np.random.default_rng(3)
    topology = Topology(rng.permutation(types), np.full(len(types), lj.MASS))
    start = Start((grid + 0.5) * edge / n_side, np.full(3, edge), None, topology)
    settings = {"n_equilibration": 0, "sample_interval": 4000, "friction": friction}
    for step, heat in ((0.25, 4.0), (1.0, 1.0)):
        end = quiet(
            model, start, heat * temperature, n_steps=4000, timestep=step * timestep, **settings
        )
        start = Start(end["positions"], start.box, None, topology)
    return start


def core_softened_case(n_sites=500):
    """Two length scales: Lennard-Jones and a Gaussian shoulder (de Oliveira et al., 2006)."""

    def energy(r):
        x = r / lj.SIGMA
        return lj.EPSILON * (4.0 * (x**-12.0 - x**-6.0) + 5.0 * np.exp(-((x - 0.7) ** 2)))

    temperature, density = 0.5 * lj.KELVIN, 0.14 / lj.SIGMA**3
    model = spline_model("A", {("A", "A"): (energy, 0.3, 1.2)}, temperature)
    step, friction = 0.004 * lj.TAU, lj.FRICTION / lj.TAU
    start = melted(model, np.zeros(n_sites, int), density, temperature, step, friction)
    return Truth(model, [state("A", temperature)], [start], step, friction)


def mixture_case(n_sites=500):
    """Equal numbers of two sites of other sizes, with a preference for unlike neighbours."""

    def lennard_jones(epsilon, sigma):
        return lambda r: epsilon * lj.EPSILON * 4.0 * ((r / sigma) ** -12.0 - (r / sigma) ** -6.0)

    sizes = {("A", "A"): (1.0, 0.34), ("A", "B"): (1.3, 0.31), ("B", "B"): (0.8, 0.28)}
    potentials = {
        pair: (lennard_jones(epsilon, sigma), 0.8 * sigma, 0.8)
        for pair, (epsilon, sigma) in sizes.items()
    }
    temperature = 1.2 * lj.KELVIN
    model = spline_model("AB", potentials, temperature)
    step, friction = 0.004 * lj.TAU, lj.FRICTION / lj.TAU
    start = melted(model, np.arange(n_sites) % 2, 26.0, temperature, step, friction)
    return Truth(model, [state("AB", temperature)], [start], step, friction)


def learner(truth, spacing, n_orders=1):
    """Terms of the truth's pairs in splines of ``spacing`` (nm), from where U is 12 kT."""
    terms, hottest = [], max(each.temperature for each in truth.states)
    for term, theta in zip(truth.model.terms, truth.model.term_theta(hottest)):
        r = np.linspace(term.basis.r_min, term.basis.r_cut, 400)
        high = r[term.basis.values(r) @ theta > 12.0 * KB * hottest]
        low = 0.01 * np.floor(100.0 * high.max(initial=term.basis.r_min))
        n_basis = round((term.basis.r_cut - low) / spacing) + 1
        basis = SplineBasis(float(low), term.basis.r_cut, n_basis)
        terms.append(PairTerm(term.sites, basis, n_orders))
    return terms


def test_lennard_jones_is_recovered_from_its_own_trajectory_in_six_rounds(tmp_path):
    truth = lennard_jones_case(256)
    settings = Settings(n_frames=500, n_steps=6000, n_equilibration=1000)
    recovery = Recovery(tmp_path, truth, [lennard_jones_term(30)], settings)
    recovery.run(6)
    [error] = potential_error(truth.model, recovery.model, lj.KELVIN, recovery.targets[0]).values()
    assert error < 0.04
    plan = recovery.plans[-1]
    assert plan["stage"] == "local"
    # the error that the covariance promises, where g is large
    final = recovery.finished()
    covariance = final.extra["covariance"]
    rows = final.terms[0].basis.values(np.linspace(0.95, 1.6, 27) * lj.SIGMA)
    promised = np.sqrt(np.einsum("rk,kl,rl->r", rows, covariance, rows)) / (KB * lj.KELVIN)
    assert 0.2 * error < np.median(promised) < 5.0 * error
