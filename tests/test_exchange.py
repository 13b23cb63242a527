"""Replica exchange: what is solvable exactly, the same ensembles as without, restarts and ranks."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from scipy import special, stats

import test_parallel
import tiny
from conftest import lattice_start
from remcg import config, exchange, parallel
from remcg.basis import BondBasis, SplineBasis
from remcg.boxes import heights as heights_of
from remcg.boxes import vectors, volume
from remcg.checkpoint import StopError
from remcg.engine.replica import Replica, Start, random_stream
from remcg.errors import InputError
from remcg.exchange import Ensemble, Exchange, neighbours
from remcg.io import read_h5, write_h5
from remcg.model import BondTerm, Model, PairTerm, VolumeTerm
from remcg.sample import exchange_path, main
from remcg.statistics import inefficiency
from remcg.topology import Topology
from remcg.units import BAR, beta

N_DRAWS = 1500
SIGNIFICANT = 1e-4


class Case:
    """States whose configurations are drawn from their exact laws, instead of being simulated."""

    def __init__(self, model, topology, ensembles, boxes, barostat="isotropic"):
        self.model, self.topology, self.ensembles = model, topology, ensembles
        settings = {"n_steps": 10, "n_equilibration": 0, "timestep": 0.001, "barostat": barostat}
        positions = np.zeros((topology.n_sites, 3))
        self.replicas = {
            (s, 0): Replica(
                model, Start(positions, vectors(box), positions, topology), e.temperature,
                e.pressure_bar, **settings,
            )
            for s, (e, box) in enumerate(zip(ensembles, boxes))
        }  # fmt: skip

    def exchanged(self, draw, observe, n_draws=N_DRAWS):
        """Observables (n_draws, n_states, ...) after one attempt each; the accepted fraction.

        draw(s) returns positions and box vectors of state s.
        """
        exchanger, found = Exchange(self.model, self.ensembles, 1, 1, ("test",)), []
        for k in range(n_draws):
            exchanger.n_attempts = 2 * k
            for (s, _), replica in self.replicas.items():
                replica.state.positions[:], replica.state.box[:] = draw(s)
            exchanger.attempt(self.replicas, parallel.Serial())
            states = [replica.state for replica in self.replicas.values()]
            found.append([observe(state.positions, state.box) for state in states])
        trials, accepted = exchanger.counts[0]
        assert trials == n_draws
        return np.array(found), accepted / trials


def assert_fraction(found, expected, n=N_DRAWS):
    """4 standard errors."""
    assert abs(found - expected) < 4.0 * np.sqrt(expected * (1.0 - expected) / n), expected


def assert_same_law(found, expected):
    """Columns of two samples, each by a Kolmogorov-Smirnov test."""
    for ours, theirs in zip(found.T, expected.T):
        assert stats.ks_2samp(ours, theirs).pvalue > SIGNIFICANT


def test_an_ideal_gas_keeps_its_volume_laws_and_exchanges_as_often_as_it_should():
    """u = c V with c = beta (P + psi/v0): V ~ Gamma(N + 1, 1/c), and by symmetry the acceptance is
    2 P(V_a > V_b) = 2 I_x(N + 1, N + 1) with x = c_b/(c_a + c_b) for c_a > c_b."""
    n = 6
    model = Model(("W",), (VolumeTerm(1, 2),), 300.0, 1.0, (np.array([[4.0], [9.0]]),))
    ensembles = [Ensemble("a", 280.0, 30.0), Ensemble("b", 330.0, 30.0)]
    c = [
        beta(e.temperature) * (BAR * e.pressure_bar + model.psi(e.temperature)[0])
        for e in ensembles
    ]
    case = Case(model, Topology(np.zeros(n), np.full(n, 18.0)), ensembles, [np.ones(3)] * 2)
    random = np.random.default_rng(1)

    def draw(s):
        edge = random.gamma(n + 1, 1.0 / c[s]) ** (1 / 3)
        return random.uniform(0.0, edge, (n, 3)), np.eye(3) * edge

    found, accepted = case.exchanged(draw, lambda x, box: [volume(box), x[0, 0] / box[0, 0]])
    assert_fraction(accepted, 2.0 * special.betainc(n + 1, n + 1, min(c) / sum(c)))
    assert 0.2 < accepted < 0.8
    for s in (0, 1):
        law = stats.gamma(n + 1, scale=1.0 / c[s])
        assert stats.kstest(found[:, s, 0], law.cdf).pvalue > SIGNIFICANT
        assert stats.kstest(found[:, s, 1], "uniform").pvalue > SIGNIFICANT


def test_dimers_in_fixed_boxes_of_different_size_keep_their_bonds():
    """p(r) ~ r^2 exp(-beta U(r; T)) for each bond; centres are uniform in the box of the state."""
    basis, n_dimers = BondBasis(0.2, 0.4, 8), 4
    strength = 300.0 * (np.linspace(0.2, 0.4, 8) - 0.3) ** 2 / 0.1
    model = Model(
        ("A",), (BondTerm(("A", "A"), basis, 2),), 300.0, 1.0,
        (np.stack([8.0 * strength, -6.0 * strength[::-1] + 8.0 * np.arange(8.0)]),),
    )  # fmt: skip
    ensembles = [Ensemble("a", 260.0, None), Ensemble("b", 380.0, None)]
    edges = [np.array([1.0, 1.5, 2.0]), np.array([3.0, 1.2, 1.4])]
    bonds = np.arange(2 * n_dimers).reshape(-1, 2)
    topology = Topology(np.zeros(2 * n_dimers), np.full(2 * n_dimers, 18.0), bonds=bonds)
    case = Case(model, topology, ensembles, edges)
    random = np.random.default_rng(2)
    r = np.linspace(0.21, 0.39, 3000)
    energy = [basis.values(r) @ model.theta(e.temperature) for e in ensembles]
    law = [r**2 * np.exp(-beta(e.temperature) * u) for e, u in zip(ensembles, energy)]
    cdf = [np.cumsum(p) / p.sum() for p in law]

    def lengths(s, shape):
        return r[np.searchsorted(cdf[s], random.random(shape))]

    def draw(s):
        centres = random.uniform(0.0, edges[s], (n_dimers, 3))
        arms = random.normal(size=(n_dimers, 3))
        arms *= 0.5 * (lengths(s, n_dimers) / np.linalg.norm(arms, axis=1))[:, None]
        return np.stack([centres - arms, centres + arms], axis=1).reshape(-1, 3), np.diag(edges[s])

    def observe(x, box):
        first, second = x[0], x[1]
        return [np.linalg.norm(second - first), *(0.5 * (first + second) / np.diagonal(box))]

    found, accepted = case.exchanged(draw, observe)
    u = [lengths(s, (20_000, n_dimers)) for s in (0, 1)]
    cost = [
        sum(
            sign * beta(e.temperature) * np.interp(u[s], r, at)
            for e, at, sign in zip(ensembles, energy, (1.0, -1.0))
        ).sum(axis=1)
        for s in (0, 1)
    ]
    chances = np.minimum(1.0, np.exp(-(cost[1] - cost[0])))
    assert abs(accepted - chances.mean()) < 4.0 * np.sqrt(
        accepted * (1.0 - accepted) / N_DRAWS + chances.var() / len(chances)
    )
    assert 0.1 < accepted < 0.9
    for s in (0, 1):
        assert (found[:, s, 0] > 0.2).all() and (found[:, s, 0] < 0.4).all()
        pvalue = stats.kstest(found[:, s, 0], lambda x, s=s: np.interp(x, r, cdf[s])).pvalue
        assert pvalue > SIGNIFICANT
        for d in (1, 2, 3):
            assert stats.kstest(found[:, s, d], "uniform").pvalue > SIGNIFICANT


SKEW = np.array([[1.0, 0.0, 0.0], [0.3, 1.1, 0.0], [-0.2, 0.25, 1.0]])
SHAPES = {
    "isotropic": (np.diag([1.0, 1.0, 1.0]), SKEW),
    "semi-isotropic": (np.diag([1.0, 1.2, 1.0]), np.diag([1.0, 1.0, 1.0])),
    "anisotropic": (np.eye(3), SKEW),
    None: (np.eye(3) * 0.9, SKEW * 1.2),
}


def drawn_boxes(random, shape, barostat, c, n):
    """Boxes with the weight V^2 exp(-c V) of two sites in what the barostat changes; edges < 4."""
    if barostat is None:
        return np.repeat(shape[None], n, axis=0)
    scales = 4.0 * random.random((n, 3))
    if barostat == "isotropic":
        scales[:] = 4.0 * random.random((n, 1)) ** (1 / 3)  # uniform in V
    elif barostat == "semi-isotropic":
        scales[:, :2] = 4.0 * np.sqrt(random.random((n, 1)))  # uniform in A
    boxes = shape * scales[:, None, :]
    v = volume(boxes)
    weights = (v * c) ** 2 * np.exp(2.0 - c * v) / 4.0
    return boxes[random.random(n) < weights]


def nearest(x, boxes):
    """Distances of two sites in many boxes, x (n, 2, 3), over all near images."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    steps = np.einsum("nd,nde->ne", x[:, 1] - x[:, 0], np.linalg.inv(boxes))
    steps = (steps - np.round(steps))[:, None] + images
    return np.linalg.norm(np.einsum("nid,nde->nie", steps, boxes), axis=2).min(axis=1)


@pytest.mark.parametrize("barostat", SHAPES, ids=lambda name: name or "NVT")
def test_two_interacting_sites_keep_their_law_in_boxes_of_different_shape(barostat):
    """Exact draws of (R, V): of the ideal gas, kept with exp(-beta (U - min U)) in wide boxes."""
    basis, psi = SplineBasis(0.1, 0.4, 6), 0.5
    theta = np.array([[6.0, 3.0, -3.0, -4.0, 1.0, 0.0], [2.0, 0.0, 4.0, -3.0, 0.0, 0.0]])
    terms = (PairTerm(("W", "W"), basis, 2), VolumeTerm(1, 1))
    model = Model(("W",), terms, 300.0, 1.0, (theta, np.array([[psi]])))
    pressures = (20.0, 5.0) if barostat else (None, None)
    ensembles = [Ensemble("a", 240.0, pressures[0]), Ensemble("b", 450.0, pressures[1])]
    random = np.random.default_rng(3)

    def draws(s):
        e = ensembles[s]
        c = beta(e.temperature) * (BAR * (e.pressure_bar or 0.0) + psi)
        boxes = drawn_boxes(
            random, SHAPES[barostat][s], barostat, c, 200_000 if barostat else 20_000
        )
        boxes = boxes[heights_of(boxes).min(axis=1) >= 2.0 * basis.r_cut]
        x = np.einsum("nid,nde->nie", random.random((len(boxes), 2, 3)), boxes)
        u = basis.values(nearest(x, boxes)) @ model.term_theta(e.temperature)[0]
        keep = random.random(len(u)) < np.exp(-beta(e.temperature) * (u - u.min()))
        return x[keep], boxes[keep]

    def observe(x, boxes):
        edge = boxes[:, 0, 0]
        shape = [np.round(boxes[:, 1, d] / edge, 9) for d in (0, 1)]  # ties where it is constant
        return np.stack([nearest(x, boxes), volume(boxes), edge, *shape], axis=1)

    topology = Topology(np.zeros(2), np.full(2, 18.0))
    case = Case(model, topology, ensembles, [SKEW * 2] * 2, barostat or "isotropic")
    pools = [draws(s) for s in (0, 1)]
    given = [iter(zip(*pool)) for pool in pools]
    found, accepted = case.exchanged(
        lambda s: next(given[s]), lambda x, box: observe(x[None], box[None])[0]
    )
    assert 0.1 < accepted < 0.98
    for s in (0, 1):
        assert_same_law(found[:, s], observe(*(part[N_DRAWS:] for part in pools[s])))


def ensembles_of(states):
    return [Ensemble(f"s{k}", *state) for k, state in enumerate(states)]


def test_ladders_go_by_temperature_then_pressure_and_part_npt_from_nvt():
    states = [(320, 1.0), (280, None), (300, 1.0), (280, 1.0), (300, 500.0), (340, None)]
    even, odd = neighbours(ensembles_of(states))
    assert even == [(1, 5), (3, 2), (4, 0)]
    assert odd == [(2, 4)]


@pytest.fixture
def soft_states(soft_model):
    """Three replicas of each of two states of a soft fluid, whose potential depends on T."""
    pair = soft_model.pair_terms[0]
    terms = (PairTerm(pair.sites, pair.basis, 2), VolumeTerm(2, 2))
    strength, psi = soft_model.coefficients
    model = Model(
        ("W",), terms, 300.0, 0.05,
        (np.concatenate([strength, 0.5 * strength]), np.array([psi[0], [1.0, 0.0]])),
    )  # fmt: skip
    ensembles = [Ensemble("cold", 300.0, 500.0), Ensemble("hot", 318.0, 650.0)]

    def build(n_replicas=3, n_steps=400, interval=20):
        replicas = {
            (s, r): Replica(
                model, lattice_start(4, 0.05, seed=r), e.temperature, e.pressure_bar,
                n_steps=n_steps, n_equilibration=200, timestep=0.004, barostat_interval=5,
                sample_interval=10, friction=5.0, seed_key=(e.name, r), label=f"{e.name}, {r}",
            )
            for s, e in enumerate(ensembles)
            for r in range(n_replicas)
        }  # fmt: skip
        return Exchange(model, ensembles, n_replicas, interval, ("soft",)), replicas

    return build


def run(exchanger, replicas, path, stop=False):
    failed = dict.fromkeys(replicas)
    exchange.run(exchanger, replicas, parallel.Serial(), path, failed, stop, lambda line: None)


def test_a_reduced_potential_is_that_of_the_dynamics(soft_states):
    exchanger, replicas = soft_states(1)
    for (s, _), replica in replicas.items():
        replica.run_chunk()
        sums, v = exchanger._sums(replica, replica.state.positions, replica.state.box)
        e = exchanger.ensembles[s]
        expected = beta(e.temperature) * (replica.samples.energy[-1] + BAR * e.pressure_bar * v)
        assert v == replica.samples.volume[-1]
        assert exchanger.reduced_potential(s, sums, v) == pytest.approx(expected, rel=1e-10)


def test_an_accepted_exchange_swaps_configurations_and_rescales_velocities(soft_states):
    exchanger, replicas = soft_states(1)
    for replica in replicas.values():
        replica.run_chunk(20)
    before = {walker: [x.copy() for x in replica.state] for walker, replica in replicas.items()}
    exchanger._decide = lambda pairs, costs: {(0, 0), (1, 0)}
    exchanger.attempt(replicas, parallel.Serial())
    for walker, other in (((0, 0), (1, 0)), ((1, 0), (0, 0))):
        state = replicas[walker].state
        ratio = replicas[walker].conditions.temperature / replicas[other].conditions.temperature
        assert np.array_equal(state.positions, before[other][0])
        np.testing.assert_allclose(state.velocities, np.sqrt(ratio) * before[other][1], rtol=1e-14)
        assert np.array_equal(state.box, before[other][2])
        assert np.array_equal(state.volume_step, before[walker][3])
        assert np.array_equal(state.attempts, before[walker][4])


def test_energy_and_volume_are_distributed_as_without_exchange(tmp_path, soft_states):
    n_steps = 24_000
    exchanger, together = soft_states(n_steps=n_steps, interval=50)
    run(exchanger, together, tmp_path / "together.h5")
    apart = soft_states(n_steps=n_steps)[1]
    for replica in apart.values():
        replica.random = random_stream(("apart", replica.label))
        while not replica.is_done:
            replica.run_chunk()
    assert 0.1 < exchanger.counts[0, 1] / exchanger.counts[0, 0] < 0.9
    for s in (0, 1):
        for name in ("energy", "volume"):
            series = [
                np.array([getattr(runs[s, r].samples, name) for r in range(3)])
                for runs in (together, apart)
            ]
            assert_same_moments_and_law(*series)


def assert_same_moments_and_law(ours, theirs):
    """Mean and variance within 4 SE; the law of every g-th sample, g the inefficiency."""
    centre = np.concatenate([ours, theirs]).mean()
    for power in (1, 2):
        means, errors = [], []
        for series in (ours, theirs):
            moment = (series - centre) ** power
            g = inefficiency(moment[:, :, None])
            means.append(moment.mean())
            errors.append(moment.std() * np.sqrt(g / moment.size))
        assert abs(means[0] - means[1]) < 4.0 * np.hypot(*errors)
    thinned = [s[:, :: int(np.ceil(inefficiency(s[:, :, None])))].ravel() for s in (ours, theirs)]
    assert min(len(s) for s in thinned) > 300
    assert stats.ks_2samp(*thinned).pvalue > SIGNIFICANT


class StopAfter:
    """Becomes true when it has been asked a number of times."""

    def __init__(self, n_questions):
        self.left = n_questions

    def __bool__(self):
        self.left -= 1
        return self.left < 0


def test_a_run_stopped_anywhere_goes_on_to_the_same_last_bit(tmp_path, soft_states, monkeypatch):
    monkeypatch.setattr("remcg.engine.replica.CHUNK", 64 * 33)  # chunks end at multiples of 33
    whole_exchange, whole = soft_states(2)
    run(whole_exchange, whole, tmp_path / "whole.h5")
    for n_questions in (0, 1, 5, 23, 68):
        path, n_stops = tmp_path / f"{n_questions}.h5", 0
        while True:
            exchanger, replicas = soft_states(2)
            try:
                run(exchanger, replicas, path, StopAfter(n_questions if n_stops < 2 else 10**9))
                break
            except StopError as stopped:
                n_stops += 1
                assert "cold (NPT) and hot (NPT): stopped at step" in str(stopped)
                assert path.exists()
        assert n_stops == 2
        assert np.array_equal(exchanger.counts, whole_exchange.counts)
        for walker, replica in replicas.items():
            for name, array in whole[walker].arrays().items():
                assert np.array_equal(replica.arrays()[name], array), (walker, name)


def test_a_checkpoint_of_other_exchanges_is_not_used(tmp_path, soft_states):
    path, said = tmp_path / "a.h5", []
    with pytest.raises(StopError):
        run(*soft_states(1), path, StopAfter(4))
    exchanger, replicas = soft_states(1, interval=30)
    exchange.run(
        exchanger, replicas, parallel.Serial(), path, dict.fromkeys(replicas), False, said.append
    )
    assert "belongs to another model, start or setting: ignored" in said[0]


NAMES = ("cold", "warm", "hot")


@pytest.fixture
def campaign(tmp_path, soft_model):
    """A campaign of test_parallel with three states at constant pressure that exchange."""
    return write_campaign(tmp_path, soft_model)


def write_campaign(folder, model, n_states=3, **settings):
    test_parallel.write_campaign(folder, model, **settings)
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["states"] = [
        {"id": name, "temperature": t, "pressure": 500.0, "trajectory": "T300.xtc"}
        for name, t in zip(NAMES[:n_states], (300, 310, 320))
    ]
    content["sample"]["exchange_interval"] = 40
    path.write_text(yaml.safe_dump(content))
    return folder


def command(folder, label, names=NAMES):
    """Arguments of the sampler; what it writes begins with the label."""
    return [
        *("--config", str(folder / "config.yaml"), "--state", *names, "--ensemble", "NPT"),
        *("--model", str(folder / "model.json"), "--iteration", "0"),
        *("--start", *[str(folder / "map.h5")] * len(names)),
        *("--output", *map(str, outputs(folder, label, names))),
    ]


def outputs(folder, label, names=NAMES):
    return [folder / f"{label}-{name}.h5" for name in names]


def mpiexec(ranks, *arguments):
    launcher = [test_parallel.MPIEXEC, "-n", str(ranks)]
    return [*launcher, sys.executable, "-m", "remcg.sample", *arguments]


def contents(folder, label):
    return [path.read_bytes() for path in outputs(folder, label)]


def test_files_do_not_depend_on_the_number_of_ranks(campaign):
    assert main(command(campaign, "serial")) == 0
    for ranks in (2, 3):
        done = subprocess.run(
            mpiexec(ranks, *command(campaign, str(ranks))),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("busy_core_seconds") == 1
        assert "exchanges accepted: cold-warm" in done.stdout
        assert contents(campaign, str(ranks)) == contents(campaign, "serial")
    assert not list(campaign.glob(".*"))
    files = [read_h5(path) for path in outputs(campaign, "serial")]
    assert [attributes["temperature"] for _, attributes in files] == [300.0, 310.0, 320.0]
    rates = [json.loads(attributes["exchange_acceptance"]) for _, attributes in files]
    assert [list(rate) for rate in rates] == [["warm"], ["cold", "hot"], ["warm"]]
    assert rates[0]["warm"] == rates[1]["cold"] > 0.0
    assert {attributes["exchange_interval"] for _, attributes in files} == {40}


def test_a_job_ended_by_sigterm_goes_on_to_the_same_files(tmp_path, soft_model):
    campaign = write_campaign(tmp_path, soft_model, steps=15_000, replicas=1)
    process = subprocess.Popen(
        mpiexec(2, *command(campaign, "stopped")), stdout=subprocess.PIPE, text=True
    )
    for _ in range(6):  # each rank names each state: the stop is caught from here on
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert exchange_path(outputs(campaign, "stopped")[0]).exists(), said
    assert main(command(campaign, "stopped")) == 0
    assert main(command(campaign, "whole")) == 0
    assert contents(campaign, "stopped") == contents(campaign, "whole")
    assert not list(campaign.glob(".*"))


def test_one_state_alone_is_refused_where_states_shall_exchange(campaign, capsys):
    assert main(command(campaign, "one", NAMES[:1])) == 1
    said = capsys.readouterr().err
    assert "cold alone has nothing to exchange with (sample.exchange_interval is 40)" in said
    assert "set sample.exchange_interval to null" in said


def test_several_states_without_exchange_are_refused(campaign, capsys):
    path = campaign / "config.yaml"
    path.write_text(path.read_text().replace("exchange_interval: 40", "exchange_interval: null"))
    assert main(command(campaign, "some")) == 1
    assert "cold, warm, hot are sampled together only in an iteration" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command(campaign, "some"), "--output", "one.h5"])
    assert "--output names 1 files for 3 states; give one for each" in capsys.readouterr().err


def test_states_of_different_molecules_are_refused(campaign, capsys):
    arrays, attributes = read_h5(campaign / "map.h5")
    arrays["masses"][:] = 20.0
    test_parallel.write_h5(campaign / "other.h5", arrays, attributes)
    arguments = command(campaign, "other")
    arguments[arguments.index(str(campaign / "map.h5"))] = str(campaign / "other.h5")
    assert main(arguments) == 1
    assert "cold and warm have different sites and cannot exchange" in capsys.readouterr().err


def test_states_that_are_not_alike_have_nothing_to_exchange(soft_model):
    with pytest.raises(InputError, match=r"nothing to exchange with for a \(NPT\) and b \(NVT\)"):
        Exchange(soft_model, [Ensemble("a", 300, 1.0), Ensemble("b", 310, None)], 1, 10, ())


def test_a_config_with_one_training_state_cannot_exchange(campaign, soft_model):
    write_campaign(campaign, soft_model, n_states=1)
    with pytest.raises(InputError, match=r"exchange_interval: there is nothing to exchange .*cold"):
        config.load(campaign / "config.yaml")


def test_a_failed_replica_keeps_its_samples(tmp_path, soft_model, capsys):
    write_campaign(tmp_path, soft_model, timestep=0.05)
    arrays, attributes = read_h5(tmp_path / "map.h5")
    write_h5(tmp_path / "map.h5", {**arrays, "masses": 0.0 * arrays["masses"] + 1e-4}, attributes)
    assert main(command(tmp_path, "hot")) == 1
    said = capsys.readouterr().err
    assert "remcg sample: state cold, replica 0" in said
    assert (tmp_path / ".hot-cold.replica-0.failed.h5").exists()


def test_a_campaign_samples_all_training_states_in_one_job(tmp_path):
    for name in ("cold.xtc", "hot.xtc", "warm.xtc", "topology.pdb", "mapping.yaml"):
        (tmp_path / name).touch()
    states = [
        {"id": name, "temperature": t, "pressure": 1.0, "trajectory": f"{name}.xtc",
         "use": "test" if name == "warm" else "train"}
        for name, t in tiny.TEMPERATURES.items()
    ]  # fmt: skip
    content = {
        "campaign": "tiny",
        "system": {"topology": "topology.pdb", "mapping": "mapping.yaml"},
        "states": states,
        "model": {
            "terms": [
                {"kind": "pair", "sites": ["AR", "AR"], "r_cut": 0.6, "n_basis": 10},
                {"kind": "volume"},
            ]
        },
        "sample": {"exchange_interval": 50},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    told = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(tiny.ROOT / "Snakefile"),
         "--configfile", str(path), "--directory", str(tmp_path), "--dry-run",
         "--printshellcmds", "--cores", "1", "--nolock"],
        capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    said = told.stdout + told.stderr
    assert told.returncode == 0, said
    jobs = [line.split() for line in said.splitlines()]
    assert ["sample_exchange", "1"] in jobs, said
    assert "sample" not in [job[0] for job in jobs if job]
    assert "--state cold hot --model" in said
    assert said.count("--iteration 000") == 1
