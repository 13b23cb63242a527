"""Henderson's theorem at work: a potential is recovered from the structure that it makes.

Short version; those of issue size are in test_verify.py.
"""

import numpy as np

import lennard_jones as lj
from recovery import Recovery, Settings, Truth, potential_error, state
from remcg.basis import SplineBasis
from remcg.model import PairTerm


def lennard_jones_case(n_sites, temperatures=(1.0,), density=0.8):
    """The shifted Lennard-Jones fluid, 2.5 sigma, one state per reduced temperature."""
    starts = [lj.melt(2.5, density, t, n_sites) for t in temperatures]
    states = [state(f"T{i}", t * lj.KELVIN) for i, t in enumerate(temperatures)]
    return Truth(lj.model(2.5), states, starts, 0.004 * lj.TAU, lj.FRICTION / lj.TAU)


def lennard_jones_term(n_basis, n_orders=1):
    """A coarser spline than the truth's own, from below the first sampled distance."""
    basis = SplineBasis(0.87 * lj.SIGMA, 2.5 * lj.SIGMA, n_basis)
    return PairTerm(("A", "A"), basis, n_orders)


def test_lennard_jones_is_recovered_from_its_own_trajectory_in_four_rounds(tmp_path):
    truth = lennard_jones_case(256)
    settings = Settings(n_frames=500, n_steps=6000, n_equilibration=1000)
    recovery = Recovery(tmp_path, truth, [lennard_jones_term(30)], settings)
    recovery.run(4)
    [error] = potential_error(truth.model, recovery.model, lj.KELVIN, recovery.targets[0]).values()
    assert error < 0.04
    plan = recovery.plans[-1]
    assert plan["stage"] == "local"
    # the error that the covariance promises, where g is large
    final = recovery.finished()
    covariance = final.extra["covariance"]
    rows = final.terms[0].basis.values(np.linspace(0.95, 1.6, 27) * lj.SIGMA)
    promised = np.sqrt(np.einsum("rk,kl,rl->r", rows, covariance, rows)) / (lj.KELVIN * lj.KB)
    assert 0.2 * error < np.median(promised) < 5.0 * error
