import json

import numpy as np
import pytest

import tiny
from remcg import ensembles
from remcg.config import State
from remcg.engine.replica import Start
from remcg.io import write_h5
from remcg.optimize import Observation
from remcg.pairs import rdf_edges
from remcg.sample import sample
from remcg.statistics import standard_error
from remcg.topology import Topology
from remcg.units import BAR
from remcg.volumes import virial_pressure_matched


def sampled_at_constant_volume(model, seed):
    positions, box = tiny.lattice(tiny.N_SITES * tiny.V0 * 2.5)
    topology = Topology(np.zeros(tiny.N_SITES), np.full(tiny.N_SITES, tiny.MASS))
    result = sample(
        model,
        Start(positions, box, None, topology),
        300.0,
        None,
        n_steps=40_000,
        n_equilibration=2000,
        timestep=0.004,
        sample_interval=10,
        rdf_edges=rdf_edges(0.6),
        seed_key=("ensembles", seed),
    )
    names = ("site_sums", "volume", "pressure", "rdf_blocks")
    return {"rdf_edges": rdf_edges(0.6), **{name: result[name][None] for name in names}}


def test_the_volume_term_makes_up_for_the_pressure_of_the_step_to_come(tmp_path):
    """The pressure after a step in the pair potential is predicted before it is sampled."""
    model = tiny.true_model()
    arrays = sampled_at_constant_volume(model, 1)
    attributes = {
        "n_molecules": tiny.N_SITES,
        "type_counts": json.dumps({"AR": tiny.N_SITES}),
    }
    reference = {"site_sums": arrays["site_sums"][0], "volume": arrays["volume"][0]}
    write_h5(tmp_path / "target.h5", reference, attributes)
    write_h5(tmp_path / "sample.h5", arrays, {})
    state = State("s", 300.0, ["-"], 50.0)
    data = ensembles.read_training_data(
        model, [state], [tmp_path / "target.h5"], [tmp_path / "sample.h5"]
    )
    step = np.zeros(model.n_params)
    step[:8] = 0.3 * np.cos(np.arange(8))
    following = virial_pressure_matched(model.with_parameters(model.parameters + step), data, model)
    after = sampled_at_constant_volume(following, 2)
    volume = after["volume"].mean()
    pressure, error = standard_error(after["pressure"])
    before, before_error = standard_error(arrays["pressure"])
    added = following.volume_pressure(volume, tiny.N_SITES, 300.0)
    tolerance = 4 * np.hypot(error, before_error) + 0.15 * abs(pressure - before)
    assert abs(pressure - before) > 4 * np.hypot(error, before_error)  # the step matters
    assert pressure + added == pytest.approx(50.0 * BAR, abs=tolerance)


def test_an_observation_read_from_its_file_is_the_same(tmp_path):
    rng = np.random.default_rng(0)
    square = rng.normal(size=(3, 4, 4))
    observation = Observation(
        rng.normal(size=4),
        rng.normal(size=4),
        *square,
        n_batches=12,
        batch_lengths=np.array([7, 9]),
        stage="local",
        full_step_kl=0.5,
        passed=True,
        phi=(rng.normal(size=(2, 84, 3)), rng.normal(size=(2, 108, 3))),
        volume=(rng.normal(size=(2, 84)), rng.normal(size=(2, 108))),
    )
    ensembles.write_observation(tmp_path / "record.h5", observation)
    again = ensembles.read_observation(tmp_path / "record.h5")
    for name, value in vars(observation).items():
        found = getattr(again, name)
        if isinstance(value, tuple):
            assert all(np.array_equal(a, b) for a, b in zip(found, value, strict=True)), name
        else:
            assert np.array_equal(found, value), name
