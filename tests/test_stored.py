"""The relative entropy of a harmonic model of a Gaussian: (k - 1 - ln k)/2 above its minimum."""

import numpy as np
import pytest

from remcg import optimize
from remcg.model import Model, VolumeTerm
from remcg.stored import joint_objective, relative_entropy_path
from remcg.units import KB
from test_optimize import HarmonicTerm

UNIT = 1.0 / KB  # K, where kT = 1


def spring(k):
    return Model(("X",), (HarmonicTerm(1),), UNIT, 1.0, (np.array([[float(k)]]),))


def state(rng, k, reference, n=2000, temperature=UNIT, name="s"):
    x = rng.normal(size=(2, n // 2)) * np.sqrt(KB * temperature / k)
    return optimize.StateData(
        name,
        temperature,
        None,
        1.0,
        1,
        0.5 * reference[None, :, None] ** 2,
        np.ones((1, len(reference))),
        0.5 * x[..., None] ** 2,
        np.ones_like(x),
        np.zeros_like(x),
        np.zeros(1),
    )


def path(rng, springs, n_reference=2000):
    reference = rng.normal(size=n_reference)
    data = [[state(rng, k, reference)] for k in springs]
    observations = [optimize.observe(spring(k), d, "global") for k, d in zip(springs, data)]
    return relative_entropy_path(spring(springs[-1]), data[-1], observations)


SPRINGS = (0.5, 4.0, 2.0, 1.0)
EXACT = np.array([0.5 * (k - 1.0 - np.log(k)) for k in SPRINGS])


def test_the_relative_entropy_along_the_path_is_that_of_theory_with_honest_error_bars():
    """200 repeats: their standard deviation is known to 5 %."""
    rng = np.random.default_rng(1)
    z = []
    for _ in range(200):
        rows = path(rng, SPRINGS)
        z.append([(r["nats_per_molecule"] - e) / r["se"] for r, e in zip(rows[:-1], EXACT)])
    assert rows[-1]["nats_per_molecule"] == 0.0 and rows[-1]["se"] == 0.0
    assert (np.abs(np.mean(z, axis=0)) < 4.0 / np.sqrt(200)).all()
    assert (0.8 < np.std(z, axis=0)).all() and (np.std(z, axis=0) < 1.2).all()


def test_integration_of_the_gradients_agrees_with_the_free_energies():
    rows = path(np.random.default_rng(2), (2.0, 1.7, 1.4, 1.2, 1.0), 20_000)
    for row in rows[:-1]:
        assert row["overlap"] > 0.1
        assert abs(row["integrated"] - row["nats_per_molecule"]) < 3 * row["se"] + 2e-3


def two_states(rng, temperatures):
    reference = rng.normal(size=500)
    return [
        state(rng, 1.0, reference, temperature=t, name=f"s{i}") for i, t in enumerate(temperatures)
    ]


@pytest.mark.parametrize(("ratio", "n_mixtures"), [(1.2, 1), (300.0, 2)])
def test_states_share_a_mixture_where_their_samples_overlap(ratio, n_mixtures):
    data = two_states(np.random.default_rng(3), [UNIT, ratio * UNIT])
    observation = optimize.observe(spring(1.0), data, "global")
    objective = joint_objective(spring(1.0), data, [observation], "global")
    assert len(set(map(id, objective.mixtures))) == n_mixtures


def test_boxes_of_other_sites_or_another_volume_share_no_mixture():
    rng = np.random.default_rng(4)
    data = two_states(rng, [UNIT, UNIT])
    for change in ({"composition": (("A", 3),)}, {"volume": data[1].volume * 1.01}):
        changed = [data[0], optimize.replace(data[1], **change)]
        observation = optimize.observe(spring(1.0), changed, "global")
        objective = joint_objective(spring(1.0), changed, [observation], "global")
        assert objective.mixtures[0] is not objective.mixtures[1]


def test_at_a_fixed_volume_the_volume_term_has_no_part_in_the_relative_entropy():
    rng = np.random.default_rng(5)
    term = VolumeTerm(2, 1)
    model = Model(("W",), (term,), UNIT, 0.03, (np.array([[1.0, 2.0]]),))
    reference = 30.0 + rng.normal(size=(1, 500))
    volume = np.full((2, 500), 30.0)
    data = [
        optimize.StateData(
            "s",
            UNIT,
            1.5,
            1.0,
            1000,
            term.basis_sums(reference, 1000, 0.03),
            reference,
            term.basis_sums(volume, 1000, 0.03),
            volume,
            np.zeros_like(volume),
            np.zeros(2),
        )
    ]
    observation = optimize.observe(model, data, "global")
    objective = joint_objective(model, data, [observation], "global")
    np.testing.assert_allclose(objective.at(model.parameters).gradient, 0.0, atol=1e-9)
