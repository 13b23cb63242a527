r"""Replica exchange: configurations change places between the states of one campaign.

State s samples configurations x = (R, V) with the weight exp(-u_s(x)),

.. math:: u_s(x) = \beta_s [U(R, V; T_s) + P_s V]

with P_s = 0 at constant volume; the potential, with its volume term, depends on temperature itself.
Configurations x_a, x_b of states a, b change places with the chance

.. math:: \min(1, e^{-\Delta}), \quad \Delta = u_a(x_b') + u_b(x_a') - u_a(x_a) - u_b(x_b)

which leaves exp(-u_a(x_a) - u_b(x_b)) as it is if x_a, x_b -> x_b', x_a' is its own inverse and
conserves dR_a dV_a dR_b dV_b. So it is:

- Both NPT: x' = x. V is a variable of both states, so that the factor V^N of scaled coordinates,
  dR dV = V^N ds dV, is the same before and after. Where the boxes differ in what the barostat does
  not change (their shape), molecules are scaled to the shape of the box they come into; that leaves
  V alone, and with it the measure.
- Both NVT: each state keeps its box, and molecules are scaled to the one they come into. The
  factors (V_a/V_b)^N and (V_b/V_a)^N of the N centres cancel.
- NPT and NVT: not exchanged; such states form ladders of their own.

Velocities v follow with sqrt(T_new/T_old) v, so that the kinetic energies cancel. Random streams,
samples and the step of the barostat stay with the state.

Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999); in NPT Okabe et al., Chem. Phys. Lett. 335,
435 (2001).
"""

import math
import time
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from remcg import boxes, checkpoint
from remcg.engine.kernels import OBSERVED, all_forces, basis_sums, no_sums
from remcg.engine.neighbors import build_list
from remcg.engine.replica import random_stream
from remcg.errors import InputError
from remcg.pairs import ROUNDING
from remcg.units import BAR, beta

SAME_BOX = 1e-12  # relative difference: rounding


class Ensemble(NamedTuple):
    """What a state samples: name, temperature in K, pressure in bar or None at constant volume."""

    name: str
    temperature: float
    pressure_bar: float | None


def neighbours(ensembles):
    """Neighbours on the ladders of NVT and of NPT states, by temperature, then pressure.

    Returns
    -------
    (list, list)
        Pairs (a, b) of indices of states: those of even and those of odd attempts.
    """
    turns = [], []
    for is_npt in (False, True):
        ladder = sorted(
            (e.temperature, e.pressure_bar or 0.0, s)
            for s, e in enumerate(ensembles)
            if (e.pressure_bar is not None) == is_npt
        )
        for k, ((*_, a), (*_, b)) in enumerate(pairwise(ladder)):
            turns[k % 2].append((a, b))
    return turns


class Exchange:
    """Attempts to exchange configurations between the replicas with the same number of all states.

    Parameters
    ----------
    model : remcg.model.Model
    ensembles : sequence of Ensemble
        Of the states.
    n_replicas : int
        Of each state.
    interval : int
        Steps between attempts.
    seed_key : sequence
        Names and integers, e.g. (seed, campaign, "exchange", iteration): the decisions of replica
        r in attempt k depend on nothing but it, r and k.

    Attributes
    ----------
    pairs : list
        Neighbours (a, b).
    counts : ndarray, shape (n_pairs, 2)
        Trials, and accepted ones.
    n_attempts : int
    seconds : float
        Spent on energies.
    """

    def __init__(self, model, ensembles, n_replicas, interval, seed_key):
        self.model, self.ensembles = model, list(ensembles)
        self.n_replicas, self.interval, self.seed_key = n_replicas, int(interval), tuple(seed_key)
        self.turns = neighbours(self.ensembles)
        self.pairs = self.turns[0] + self.turns[1]
        if not self.pairs:
            raise InputError(
                f"there is nothing to exchange with for {_names(self.ensembles)}; give at least two"
                " states at constant pressure or two at constant volume, or set"
                " sample.exchange_interval to null"
            )
        self.theta = [model.theta(e.temperature) for e in self.ensembles]
        self.counts = np.zeros((len(self.pairs), 2), np.int64)
        self.n_attempts, self.seconds = 0, 0.0

    @property
    def next_step(self):
        """Step of the next attempt."""
        return (self.n_attempts + 1) * self.interval

    def reduced_potential(self, state, sums, volume):
        """u_s(x), dimensionless, from all basis sums (n_phi,) and the volume in nm^3."""
        at = self.ensembles[state]
        work = BAR * (at.pressure_bar or 0.0) * volume
        return beta(at.temperature) * (self.theta[state] @ sums + work)

    def attempt(self, replicas, ranks):
        """One attempt for each pair whose turn it is.

        Parameters
        ----------
        replicas : dict
            Those of this rank, by (number of the state, number of the replica).
        ranks : remcg.parallel.Ranks or Serial
        """
        pairs = self.turns[self.n_attempts % 2]
        self.n_attempts += 1
        if not pairs:
            return
        other = dict(pairs) | {b: a for a, b in pairs}
        own = {walker: replica for walker, replica in replicas.items() if walker[0] in other}
        partner = {(s, r): (other[s], r) for s, r in own}
        found = _all(ranks, {walker: replica.state.box for walker, replica in own.items()})
        begin = time.perf_counter()
        offers = {
            (s, r): self._offer(replica, s, other[s], found[other[s], r])
            for (s, r), replica in own.items()
        }
        self.seconds += time.perf_counter() - begin
        costs = _all(ranks, {walker: cost for walker, (cost, *_) in offers.items()})
        accepted = self._decide(pairs, costs)
        given = _all(ranks, {w: offers[w][1:] for w in own if w in accepted})
        for walker in accepted & own.keys():
            _take(own[walker].state, *given[partner[walker]])

    def _offer(self, replica, state, to, box):
        """What a replica of a state gives to the state ``to``, into whose box it would come.

        Returns
        -------
        (float, ndarray, ndarray, ndarray)
            u_to(x') - u_state(x); positions, velocities, box of x'.
        """
        now = replica.state
        new_box = box_after(now.box, box, replica.conditions)
        positions = scaled_positions(now.positions, now.box, new_box, replica.topology)
        factor = self.ensembles[to].temperature / self.ensembles[state].temperature
        cost = math.inf  # of a box in which the state may not be
        if boxes.heights(new_box).min() >= 2.0 * replica.system.reach.max() * (1.0 - ROUNDING):
            sums, volume = self._sums(replica, now.positions, now.box)
            cost = -self.reduced_potential(state, sums, volume)
            if new_box is not now.box:
                sums, volume = self._sums(replica, positions, new_box)
            cost += self.reduced_potential(to, sums, volume)
        return cost, positions, math.sqrt(factor) * now.velocities, new_box.copy()

    def _sums(self, replica, positions, box):
        """All basis sums (n_phi,) of a configuration, and its volume."""
        volume = float(boxes.volume(box))
        site_sums = _site_sums(replica.system, replica.sites, positions, box)
        n_molecules = replica.topology.n_molecules
        return self.model.basis_sums(site_sums, volume, n_molecules), volume

    def _decide(self, pairs, costs):
        """Walkers (state, replica) that change places, the same on all ranks."""
        accepted = set()
        for r in range(self.n_replicas):
            draws = random_stream((*self.seed_key, r, self.n_attempts)).random(len(pairs))
            for (a, b), draw in zip(pairs, draws):
                change = costs[a, r] + costs[b, r]
                is_accepted = draw < math.exp(-max(change, 0.0))
                self.counts[self.pairs.index((a, b))] += 1, is_accepted
                if is_accepted:
                    accepted |= {(a, r), (b, r)}
        return accepted

    def acceptance(self, state):
        """Accepted fraction of the exchanges of a state, by the name of its neighbour."""
        return {
            self.ensembles[a if b == state else b].name: float(accepted / trials)
            for (a, b), (trials, accepted) in zip(self.pairs, self.counts)
            if state in (a, b) and trials
        }

    def progress(self):
        """One line: acceptance of each pair."""
        rates = [
            f"{self.ensembles[a].name}-{self.ensembles[b].name} {accepted / trials:.0%}"
            for (a, b), (trials, accepted) in zip(self.pairs, self.counts)
            if trials
        ]
        return f"exchanges accepted: {', '.join(rates) or 'none tried'}"


def box_after(box, into, conditions):
    """Box of a configuration that comes from ``box`` to where ``into`` was, both (3, 3) in nm.

    It takes along what volume moves can change and gets the rest from ``into``.
    """
    lengths = np.log(np.diagonal(box) / np.diagonal(into))
    free = conditions.scaled if conditions.is_npt else np.zeros((1, 3))
    result = into * np.exp(np.linalg.pinv(free) @ free @ lengths)
    return box if np.allclose(result, box, rtol=SAME_BOX, atol=0.0) else result


def scaled_positions(positions, box, new_box, topology):
    """Whole molecules moved with their centres, affinely with the box; a new array."""
    if new_box is box:
        return positions.copy()
    change = np.linalg.solve(box, new_box) - np.eye(3)
    return positions + (topology.centres(positions) @ change)[topology.molecule]


def _site_sums(system, sites, positions, box):
    """Basis sums (n_columns,) of the terms of sites."""
    x = np.zeros((len(positions), 4))
    x[:, :3] = positions
    reach = np.where(system.has_term, system.r_cut, 0.0)
    neighbors = build_list(x, box, sites, system.channel_of, reach)
    forces, observed, sums = np.empty_like(x), no_sums(system, 0, 0.0), np.zeros(system.n_columns)
    all_forces(x, box, neighbors, sites, system, OBSERVED, observed, forces)
    basis_sums(observed, system, sums)
    return sums


def _take(state, positions, velocities, box):
    state.positions[:], state.velocities[:], state.box[:] = positions, velocities, box


def _all(ranks, items):
    """Dictionary of all ranks' items."""
    return {key: item for part in ranks.allgather(items) for key, item in part.items()}


def _names(ensembles):
    kinds = [f"{e.name} (NVT)" if e.pressure_bar is None else f"{e.name} (NPT)" for e in ensembles]
    return " and ".join(kinds)


def run(exchange, replicas, ranks, path, failed, stop, log):
    """Run the replicas of all ranks together to their end, from their checkpoint if there is one.

    In each round every replica that is behind runs one chunk, which ends at the next attempt at
    the latest. Then the ranks agree whether to save, to stop, to exchange.

    Parameters
    ----------
    replicas : dict
        Those of this rank, by (number of the state, number of the replica).
    path : path
        Checkpoint of all replicas, written by rank 0.
    failed : dict
        Where the samples of each go if it fails.
    stop : object
        Becomes true, on any rank, when the run shall save itself and end with
        ``checkpoint.StopError``.
    """
    key = _key(exchange, replicas, ranks)
    _restore(exchange, replicas, ranks, path, key, log)
    save = checkpoint.Every(checkpoint.SAVE_EVERY)
    report = checkpoint.Every(checkpoint.REPORT_EVERY)
    begun, first = time.monotonic(), min((r.step for r in replicas.values()), default=0)
    while True:
        behind = [replica.step for replica in replicas.values() if not replica.is_done]
        told = ranks.allgather((min(behind, default=math.inf), bool(stop), save.is_due()))
        steps, stops, saves = zip(*told)
        step = min(steps)
        if math.isinf(step):
            break
        if any(stops) or saves[0]:
            _save(exchange, replicas, ranks, path, key)
        if any(stops):
            raise checkpoint.StopError(f"{_names(exchange.ensembles)}: stopped at step {step}")
        if step == exchange.next_step:
            exchange.attempt(replicas, ranks)
        for walker, replica in replicas.items():
            if replica.step == step and not stop:
                with checkpoint.keeping_failure(replica, failed[walker]):
                    replica.run_chunk(exchange.next_step)
        if ranks.rank == 0 and report.is_due():
            total = max(replica.n_total for replica in replicas.values())
            speed = (step - first) / (time.monotonic() - begun)
            log(f"all replicas: step {step} of {total}, {speed:.0f} steps/s")
            log(exchange.progress())
    for replica in replicas.values():
        log(replica.progress())
    if ranks.rank == 0:
        log(exchange.progress())


def _key(exchange, replicas, ranks):
    """Hash of everything that determines the run of all replicas."""
    keys = _all(ranks, {walker: replica.key for walker, replica in replicas.items()})
    return checkpoint.digest(
        [keys[walker] for walker in sorted(keys)],
        [list(pair) for pair in exchange.pairs],
        [list(e) for e in exchange.ensembles],
        [exchange.interval, *exchange.seed_key],
    )


def _save(exchange, replicas, ranks, path, key):
    """Rank 0 writes all replicas to one file, while the others wait."""
    arrays, attributes = {}, {}
    for (s, r), replica in replicas.items():
        arrays |= {f"{s}.{r}.{name}": array for name, array in replica.arrays().items()}
        attributes[f"{s}.{r}"] = replica.attributes()
    gathered = ranks.gather((arrays, attributes))
    if ranks.rank == 0:
        own = {"n_attempts": exchange.n_attempts, "counts": exchange.counts.tolist()}
        arrays = {name: array for part, _ in gathered for name, array in part.items()}
        attributes = {name: item for _, part in gathered for name, item in part.items()}
        checkpoint.save(path, key, arrays, {"exchange": own, "replicas": attributes})
    ranks.barrier()


def _restore(exchange, replicas, ranks, path, key, log):
    """Go on from a checkpoint, which rank 0 reads for all."""
    saved = ranks.allgather(checkpoint.load(path, key, log) if ranks.rank == 0 else None)[0]
    if not saved:
        return
    arrays, attributes = saved
    exchange.n_attempts = attributes["exchange"]["n_attempts"]
    exchange.counts = np.array(attributes["exchange"]["counts"], np.int64)
    for (s, r), replica in replicas.items():
        prefix = f"{s}.{r}."
        own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        replica.restore(own, attributes["replicas"][f"{s}.{r}"])
        log(f"{replica.label}: goes on from step {replica.step} of its checkpoint")
