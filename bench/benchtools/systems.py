"""The systems that are timed: one-site water and three-site chains, with B-spline potentials."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from remcg import config
from remcg.basis import AngleBasis, BondBasis, SplineBasis
from remcg.engine.replica import Replica, Start
from remcg.model import AngleTerm, BondTerm, Model, PairTerm, VolumeTerm
from remcg.topology import Topology
from remcg.units import KB

TEMPERATURE = 300.0  # K
DEFAULTS = config.Sample()
EQUILIBRATION = 2000  # steps from a lattice, and a quarter of it from copies of a small box

WATER_DENSITY = 33.4  # sites per nm^3
WATER_R_MIN, WATER_SPACING = 0.24, 0.02  # nm
# pair term and volume term of the campaign config/spce-water.yaml at 300 K, kJ/mol
WATER_PAIR = [
    30.202, 14.5099, 2.5986, 0.9823, 2.71, 2.9479, 2.125, 1.3686, 0.6763, 0.1299, -0.3316,
    -0.6331, -0.739, -0.6788, -0.487, -0.2075, 0.0689, 0.072, -0.0165, -0.0625, -0.0758,
    -0.0858, -0.0669, -0.0523, -0.0317, -0.024, -0.0123, -0.0135, -0.0248, -0.0295, -0.0223,
    -0.0297, -0.0068, -0.0186,
]  # fmt: skip
WATER_VOLUME = [16.7029, -1.6266]
WATER_V0 = 0.03022457  # nm^3

CHAIN_DENSITY = 4.5  # molecules per nm^3, as hexane
CHAIN_MASSES = (29.06, 28.05, 29.06)  # C2H5, C2H4, C2H5
CHAIN_R_CUT = 1.2  # nm
BOND, BOND_WIDTH = 0.25, 0.01  # nm
ANGLE, ANGLE_WIDTH = 2.6, 0.25  # rad


@dataclass(frozen=True)
class System:
    """What all programs get: a model at a temperature (K), a configuration, a time step (ps)."""

    model: Model
    start: Start
    temperature: float = TEMPERATURE
    timestep: float = DEFAULTS.timestep
    friction: float = DEFAULTS.friction

    @property
    def n_sites(self):
        return len(self.start.positions)

    @property
    def r_cut(self):
        return max(term.basis.r_cut for term in self.model.pair_terms)

    def terms(self, kind):
        """(term, its coefficients in kJ/mol) of one kind."""
        thetas = self.model.term_theta(self.temperature)
        return [(t, theta) for t, theta in zip(self.model.terms, thetas) if t.kind == kind]

    def groups(self, term):
        """Sites of each bonded group on which a term acts, (n, 2) or (n, 3)."""
        return self.start.topology.groups(term, self.model.site_types)


def water(n_side, r_cut):
    """n_side^3 waters on a cubic lattice; beyond 0.9 nm the potential is zero but computed."""
    n_more = round((r_cut - WATER_R_MIN) / WATER_SPACING) + 1 - len(WATER_PAIR)
    theta = np.concatenate([WATER_PAIR, np.zeros(n_more)])
    term = PairTerm(("W", "W"), SplineBasis(WATER_R_MIN, r_cut, len(theta)), 1)
    volume = VolumeTerm(len(WATER_VOLUME), 1)
    coefficients = (theta[None], np.array([WATER_VOLUME]))
    model = Model(("W",), (term, volume), TEMPERATURE, WATER_V0, coefficients)
    n_sites = n_side**3
    edge = (n_sites / WATER_DENSITY) ** (1 / 3)
    topology = Topology(np.zeros(n_sites, int), np.full(n_sites, 18.01528))
    return System(model, Start(_lattice(n_side) * edge, np.full(3, edge), None, topology))


def repeated(system, n):
    """n^3 copies of a box without bonds."""
    start = system.start
    shifts = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 1, 3)
    topology = Topology(
        np.tile(start.topology.site_types, n**3), np.tile(start.topology.masses, n**3)
    )
    positions = (start.positions + shifts * start.box).reshape(-1, 3)
    return replace(system, start=Start(positions, n * start.box, None, topology))


def chains(n_side):
    """n_side^3 chains A-B-A, hexane-like, along the diagonal of a cubic lattice."""
    terms, coefficients = [], []
    for a, b, sigma, epsilon in (
        ("A", "A", 0.41, 1.5),
        ("A", "B", 0.4, 1.4),
        ("B", "B", 0.39, 1.3),
    ):
        basis = SplineBasis(0.8 * sigma, CHAIN_R_CUT, 36)
        terms.append(PairTerm((a, b), basis, 1))
        coefficients.append(_fit(basis, lambda r, s=sigma, e=epsilon: _lennard_jones(r, s, e)))
    thermal = KB * TEMPERATURE
    bond, angle = BondBasis(BOND - 0.05, BOND + 0.05, 13), AngleBasis(1.2, 14)
    terms += [BondTerm(("A", "B"), bond, 1), AngleTerm(("A", "B", "A"), angle, 1)]
    coefficients += [
        _fit(bond, lambda b: 0.5 * thermal * ((b - BOND) / BOND_WIDTH) ** 2),
        _fit(angle, lambda a: 0.5 * thermal * ((a - ANGLE) / ANGLE_WIDTH) ** 2),
    ]
    model = Model(
        ("A", "B"), tuple(terms), TEMPERATURE, 1 / CHAIN_DENSITY, tuple(coefficients),
        exclude=("1-2", "1-3"),
    )  # fmt: skip
    return System(model, _chain_start(n_side))


def _chain_start(n_side):
    n = n_side**3
    edge = (n / CHAIN_DENSITY) ** (1 / 3)
    rise, run = BOND * np.cos(ANGLE / 2), BOND * np.sin(ANGLE / 2)
    diagonal, across = np.array([1, 1, 1]) / np.sqrt(3), np.array([1, -1, 0]) / np.sqrt(2)
    shape = np.array([-run * diagonal, rise * across, run * diagonal])
    sites = np.arange(3 * n).reshape(n, 3)
    topology = Topology(
        np.tile([0, 1, 0], n), np.tile(CHAIN_MASSES, n), np.repeat(np.arange(n), 3),
        bonds=np.concatenate([sites[:, :2], sites[:, 1:]]), angles=sites,
    )  # fmt: skip
    positions = (_lattice(n_side)[:, None] * edge + shape).reshape(-1, 3)
    return Start(positions, np.full(3, edge), None, topology)


def equilibrated(system, n_steps=EQUILIBRATION):
    """The system after Langevin dynamics, with velocities."""
    replica = Replica(
        system.model, system.start, system.temperature, n_steps=n_steps, n_equilibration=0,
        timestep=system.timestep, friction=system.friction, sample_interval=n_steps,
    )  # fmt: skip
    while not replica.is_done:
        replica.run_chunk()
    result = replica.result()
    start = Start(result["positions"], result["box"], result["velocities"], system.start.topology)
    return replace(system, start=start)


def close_pairs(system):
    """Pairs of sites that interact, (n, 2), and their distances, nm."""
    start = system.start
    positions = np.mod(start.positions, start.box)
    pairs = cKDTree(positions, boxsize=start.box).query_pairs(system.r_cut, output_type="ndarray")
    if system.model.exclude:
        excluded = start.topology.excluded(system.model.exclude)
        pairs = pairs[~np.isin(_key(pairs), _key(excluded))]
    return pairs, np.linalg.norm(_vectors(start, *pairs.T), axis=1)


def _key(pairs):
    pairs = np.sort(pairs, axis=1).astype(np.int64)
    return pairs[:, 0] << 32 | pairs[:, 1]


def energy(system):
    """Energy of all terms but that of the volume, from the basis functions, kJ/mol."""
    pairs, distances = close_pairs(system)
    names = np.array(system.model.site_types)[system.start.topology.site_types[pairs]]
    total = 0.0
    for term, theta in system.terms("pair"):
        a, b = term.sites
        is_mine = (names == (a, b)).all(axis=1) | (names == (b, a)).all(axis=1)
        total += (term.basis.values(distances[is_mine]) @ theta).sum()
    for term, theta in system.terms("bond"):
        lengths = np.linalg.norm(_vectors(system.start, *system.groups(term).T), axis=1)
        total += (term.basis.values(lengths) @ theta).sum()
    for term, theta in system.terms("angle"):
        total += (term.basis.values(_angles(system.start, system.groups(term))) @ theta).sum()
    return float(total)


def _angles(start, groups):
    i, j, k = groups.T
    a, b = _vectors(start, i, j), _vectors(start, k, j)
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))


def _vectors(start, first, second):
    """Minimum images of x_first - x_second, (n, 3), nm."""
    d = start.positions[first] - start.positions[second]
    return d - start.box * np.round(d / start.box)


def _lattice(n_side):
    axis = (np.arange(n_side) + 0.5) / n_side
    return np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)


def _lennard_jones(r, sigma, epsilon):
    """Lennard-Jones times a factor that ends it smoothly at the cut-off, kJ/mol."""
    x = (sigma / r) ** 6
    return 4.0 * epsilon * (x * x - x) * (1.0 - (r / CHAIN_R_CUT) ** 6) ** 2


def _fit(basis, potential):
    """Coefficients nearest to a potential, (1, n_basis)."""
    x = np.linspace(basis.low, basis.high, 2000, endpoint=False)
    return np.linalg.lstsq(basis.values(x), potential(x), rcond=None)[0][None]
