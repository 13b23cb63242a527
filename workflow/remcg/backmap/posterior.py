r"""Draws of atoms from their distribution over given sites.

.. math:: p(x \mid y) \propto e^{-U(x)/kT} \, \delta(Mx - y)

One chain: conformers under the sites; where molecules have several sites, dynamics that cools
them; molecules of one site turned while they cool, alone (:mod:`remcg.backmap.turns`) and along
chains of hydrogen bonds (:mod:`remcg.backmap.rebond`); then exact forces on the exact manifold
(:mod:`remcg.backmap.dynamics`). Whether a chain of such a length forgets where it began is not
assumed but tested from two sides, see :func:`two_sided`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from remcg.backmap.constraints import UnreachableError
from remcg.backmap.dynamics import Dynamics
from remcg.backmap.minimise import find_minimum, minimise
from remcg.backmap.rebond import cooled
from remcg.backmap.search import HOT, search
from remcg.equilibration import first_equilibrated, inefficiency
from remcg.errors import SamplingError, attempted

COOLING_STAGES = 10
MOST_TRIES, TRIED_ATOMS = 32, 20_000
LAST_SWEEPS = 50  # of turns at the temperature, with the longer cut-off
HARSH = 3e4  # kJ/mol/nm: a force on an atom that dynamics must not begin with
SIGNIFICANT = 3.0  # standard errors


@dataclass(frozen=True)
class Protocol:
    """How long chains are.

    Attributes
    ----------
    draws : int
        Structures per frame.
    starts : int or None
        Chains that they come from, each from other conformers and orientations; None: as many.
    sweeps : int
        How long molecules with one site cool, per chain, in sweeps of turns; of those with hydrogen
        bonds a part goes into chains of bonds (:func:`remcg.backmap.rebond.cooled`).
    steps : int
        Of dynamics at the temperature, per chain; as many while it cools where other molecules
        have atoms that can move.
    hot : float
        K, where dynamics begins to cool.
    interval : int
        Steps between samples of the energy.
    tries : int
        Placements that are minimised at the beginning of a chain, of which one goes on; see
        :func:`tries_for`.
    """

    draws: int = 2
    starts: int | None = None
    sweeps: int = 6000
    steps: int = 1000
    hot: float = HOT
    interval: int = 20
    tries: int = 1


class System(NamedTuple):
    """What the chains of all frames share.

    ``place(sites, rng)`` gives positions (n_atoms, 3) over the sites, ``place(sites, rng, True)``
    varied ones to choose from; ``turns`` may be None. ``is_sound(positions)`` tells whether a chain
    may start there, ``vary(positions, sites, rng)`` gives another conformer over the same sites.
    """

    atoms: Any  # remcg.backmap.atoms.Atoms
    constraints: Any  # remcg.backmap.constraints.Constraints
    turns: Any  # remcg.backmap.turns.Turns or None
    place: Any
    n_molecules: int
    is_sound: Any = None  # all are
    vary: Any = None


class Chain(NamedTuple):
    """One chain at the temperature.

    positions (n_draws, n_atoms, 3) nm and energies (n_draws,) kJ/mol of its draws; series
    (n_samples,) kJ/mol; equilibrated: the first sample to count; independent: how many independent
    ones there are from there on.
    """

    positions: np.ndarray
    energies: np.ndarray
    series: np.ndarray
    equilibrated: int
    independent: float

    def mean(self):
        """Mean energy in equilibrium and its standard error, kJ/mol."""
        kept = self.series[self.equilibrated :]
        return kept.mean(), kept.std() * np.sqrt(inefficiency(kept) / max(len(kept) - 1, 1))


class Draws(NamedTuple):
    """Structures of one frame, the chains that they come from, and why others failed."""

    chains: list
    interval: float  # ps, between samples
    lost: tuple = ()  # errors of chains that ended without a structure

    @property
    def positions(self):
        """All structures, chain by chain: (n_structures, n_atoms, 3), nm."""
        return np.concatenate([chain.positions for chain in self.chains])

    @property
    def energies(self):
        """Their potential energies, (n_structures,), kJ/mol."""
        return np.concatenate([chain.energies for chain in self.chains])

    @property
    def n_eff(self):
        """Independent structures: of each chain no more than it has independent samples."""
        return float(sum(min(len(c.energies), max(c.independent, 1.0)) for c in self.chains))

    @property
    def inefficiency(self):
        """Time between independent samples of the energy, ps, mean over chains."""
        kept = [inefficiency(chain.series[chain.equilibrated :]) for chain in self.chains]
        return float(np.mean(kept) * self.interval)

    @property
    def discarded(self):
        """Time before equilibrium, ps, longest of the chains."""
        return float(max(chain.equilibrated for chain in self.chains) * self.interval)

    def arrays(self):
        """Entries of ``backmap/<state>.h5`` of the frame."""
        return {
            "positions": self.positions,
            "energy": self.energies,
            "n_eff": self.n_eff,
            "inefficiency_ps": self.inefficiency,
            "discarded_ps": self.discarded,
        }


class Agreement(NamedTuple):
    """Chains from templates beside one from the reference's own atoms, kJ/mol per molecule."""

    energy: float
    own_energy: float
    gap: float
    se: float

    @property
    def verdict(self):
        """``posterior`` where both agree within 3 SE, else ``annealed``."""
        return "posterior" if abs(self.gap) <= SIGNIFICANT * self.se else "annealed"

    def arrays(self):
        """Entries of ``backmap/<state>.h5`` of the frame."""
        return {
            "two_sided_gap": self.gap,
            "two_sided_gap_se": self.se,
            "own_energy": self.own_energy,
            "is_posterior": self.verdict == "posterior",
        }


def draw(system, sites, box, temperature, rng, protocol=None):
    """Structures over the sites of one frame.

    Parameters
    ----------
    system : System
    sites : ndarray, shape (n_sites, 3)
        nm, those of a molecule next to one another.
    box : ndarray, shape (3,) or (3, 3), or None
        nm.
    temperature : float
        K.
    rng : numpy.random.Generator
    protocol : Protocol, optional

    Returns
    -------
    Draws
        Of all chains but those that fail.

    Raises
    ------
    SamplingError, UnreachableError
        If all chains fail: what the first one met.
    """
    protocol = protocol or Protocol()
    n_chains = min(protocol.starts or protocol.draws, protocol.draws)
    counts = [len(part) for part in np.array_split(np.arange(protocol.draws), n_chains)]
    system.atoms.set_box(box)

    def chain(item):
        count, stream = item
        start = _cooled(system, sites, box, temperature, stream, protocol)
        return _chain(system, start, sites, temperature, stream, protocol, count)

    expected = SamplingError, UnreachableError, np.linalg.LinAlgError
    chains, lost = attempted(chain, zip(counts, rng.spawn(n_chains)), expected)
    return Draws(chains, _interval(system, protocol), tuple(lost))


def two_sided(system, drawn, own, sites, box, temperature, rng, protocol=None):
    """Compare chains from templates with one that starts where the sites were mapped from.

    The reference's own atoms are a draw from the posterior of their sites, so a chain from there
    is in equilibrium from the start; chains from templates that have forgotten their beginning
    have the same mean energy.

    Parameters
    ----------
    system : System
    drawn : Draws
        From :func:`draw` with the same protocol.
    own : ndarray, shape (n_atoms, 3)
        nm, molecules whole, next to their sites.
    sites, box, temperature, rng, protocol
        As of :func:`draw`.

    Returns
    -------
    Agreement
        Its standard error is of noise within the chains or of the spread between those from
        templates, whichever is larger.
    """
    protocol = protocol or Protocol()
    system.atoms.set_box(box)
    start = system.constraints.project(own, sites)
    chain = _chain(system, start, sites, temperature, rng, protocol, 1)
    own_mean, own_se = chain.mean()
    means, errors = np.array([each.mean() for each in drawn.chains]).T
    se = np.sqrt((errors**2).sum()) / len(means)
    if len(means) > 1:
        se = max(se, means.std(ddof=1) / np.sqrt(len(means)))
    values = means.mean(), own_mean, means.mean() - own_mean, np.hypot(se, own_se)
    return Agreement(*(float(value) / system.n_molecules for value in values))


def tries_for(n_molecules, n_atoms):
    """Placements to choose from: :data:`MOST_TRIES` for one molecule, fewer for several or large.

    Sites do not tell conformers apart that are far from one another for the dynamics, as those of a
    peptide. The energy of a whole system only tells those of few molecules apart.
    """
    return max(min(MOST_TRIES, TRIED_ATOMS // n_atoms) // n_molecules, 1)


def chosen_start(system, sites, temperature, rng, tries):
    """Minimised atoms (n_atoms, 3), nm, of one of several conformers; see :func:`search`.

    Sound are minima without a double bond or a centre the other way round, which the reference
    never has and dynamics never leaves.
    """
    if tries == 1:
        return minimise(system.atoms, system.constraints, system.place(sites, rng), sites)

    def place(_):
        return system.place(sites, rng, True)

    def minimum(placed):
        return find_minimum(system.atoms, system.constraints, placed, sites)

    def is_sound(each):
        return system.is_sound is None or system.is_sound(each.positions)

    def vary(positions):
        return system.vary(positions, sites, rng)

    expected = SamplingError, UnreachableError
    arguments = place, minimum, tries, temperature, rng, expected, is_sound
    return search(*arguments, vary if system.vary else None)[0].positions


def _cooled(system, sites, box, temperature, rng, protocol):
    """The start of a chain: placed, without overlaps, cooled, turned.

    Turns come last, because hot dynamics disorders again what they have ordered.
    """
    atoms, constraints, turns = system.atoms, system.constraints, system.turns
    turning, hot = np.zeros(len(atoms.masses), bool), max(protocol.hot, temperature)
    if turns is not None and len(turns.turning):
        turning = turns.moves
    if turning.all():
        x = system.place(sites, rng)
    else:
        x = chosen_start(system, sites, hot, rng, protocol.tries)
    if _others_move(constraints, atoms.masses, turning):
        dynamics = Dynamics(atoms, constraints)
        dynamics.start(x, sites, hot, rng)
        count = max(protocol.steps // COOLING_STAGES, 1)
        for step in np.geomspace(hot, temperature, COOLING_STAGES):
            dynamics.run(count, step)
        x = dynamics.positions
    if turning.any():
        x = cooled(turns, x, box, temperature, protocol.sweeps, rng)
        x = turns.run(x, box, temperature, LAST_SWEEPS, rng).positions
        if np.abs(atoms.energy_and_forces(x)[1]).max() > HARSH:
            x = minimise(atoms, constraints, x, sites)
    return x


def _others_move(constraints, masses, turning):
    """Whether atoms of molecules that do not turn have more freedom than their sites take."""
    still = ~turning & (np.asarray(masses) > 0)
    fixed = np.abs(constraints.operator) @ still > 0
    return 3 * int(still.sum()) > 3 * int(fixed.sum())


def _chain(system, start, sites, temperature, rng, protocol, count):
    """Dynamics at the temperature from a start on the manifold; ``count`` draws."""
    dynamics = Dynamics(system.atoms, system.constraints)
    dynamics.start(start, sites, temperature, rng)
    n_samples = max(protocol.steps // protocol.interval, 2 * count)
    drawn = n_samples - 1 - np.arange(count) * (n_samples // (2 * count))
    series, positions = np.empty(n_samples), {}
    for k in range(n_samples):
        dynamics.run(protocol.interval)
        series[k] = dynamics.potential
        if k in drawn:
            positions[k] = system.atoms.with_virtual_sites(dynamics.positions)
    equilibrated, independent = first_equilibrated(series)
    kept = sorted(positions)
    taken = np.array([positions[k] for k in kept])
    return Chain(taken, series[kept], series, equilibrated, independent)


def _interval(system, protocol):
    return protocol.interval * Dynamics(system.atoms, system.constraints).timestep
