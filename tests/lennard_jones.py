"""The Lennard-Jones fluid for tests of the engine: a B-spline model, exact sums, NIST references.

Reduced quantities throughout: lengths in sigma, energies in epsilon, times in tau. The model is the
linear-force-shifted potential (LFS), U(r) - U(c) - (r - c) U'(c), because energy and force of a
spline potential vanish at the cut-off c. Averages of the full potential, cut at c without a shift
and with long-range corrections, follow exactly by reweighting from the LFS ensemble.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.model import Model, PairTerm
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB

SIGMA, EPSILON, MASS = 0.34, 1.0, 40.0  # nm, kJ/mol, amu: argon, with kT = T*
TAU = SIGMA * np.sqrt(MASS / EPSILON)  # ps
KELVIN = EPSILON / KB  # one reduced temperature
PRESSURE = EPSILON / SIGMA**3  # kJ/mol/nm^3
R_MIN, SPACING = 0.78, 0.005  # sigma: U(R_MIN) = 61
N_SITES = 500
FRICTION = 0.5  # 1/tau


def lj(r):
    return 4.0 * (r**-12.0 - r**-6.0)


def lj_slope(r):
    return 4.0 * (-12.0 * r**-13.0 + 6.0 * r**-7.0)


def shifted(r, cutoff):
    """LFS potential; zero beyond the cut-off."""
    r = np.asarray(r, float)
    value = lj(r) - lj(cutoff) - (r - cutoff) * lj_slope(cutoff)
    return np.where(r < cutoff, value, 0.0)


def shifted_slope(r, cutoff):
    r = np.asarray(r, float)
    return np.where(r < cutoff, lj_slope(r) - lj_slope(cutoff), 0.0)


def model(cutoff, spacing=SPACING):
    """The LFS potential as a cubic spline that meets it, and its slope at both ends, at knots."""
    n_intervals = round((cutoff - R_MIN) / spacing)
    basis = SplineBasis(R_MIN * SIGMA, cutoff * SIGMA, n_intervals + 1)
    knots = np.linspace(R_MIN, cutoff, n_intervals + 1)
    slopes = [(1, shifted_slope(R_MIN, cutoff) / SIGMA)], [(1, 0.0)]
    energies = shifted(knots, cutoff)
    spline = make_interp_spline(knots * SIGMA, EPSILON * energies, k=3, bc_type=slopes)
    assert np.abs(spline.c[-2:]).max() < 1e-9
    return Model(("A",), (PairTerm(("A", "A"), basis, 1),), KELVIN, 1.0, (spline.c[None, :-2],))


def lattice(density, n_sites=N_SITES, seed=0):
    """Face-centred cubic start with a little noise; ``n_sites`` is 4 n^3."""
    n_side = round((n_sites / 4) ** (1 / 3))
    assert 4 * n_side**3 == n_sites
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2 + 0.25
    cells = np.stack(np.meshgrid(*[np.arange(n_side)] * 3), axis=-1).reshape(-1, 1, 3)
    edge = SIGMA * (n_sites / density) ** (1 / 3)
    positions = (cells + corners).reshape(-1, 3) * edge / n_side
    positions += np.random.default_rng(seed).normal(0.0, 0.02 * SIGMA, positions.shape)
    topology = Topology(np.zeros(n_sites), np.full(n_sites, MASS))
    return Start(positions, np.full(3, edge), None, topology)


def simulate(
    cutoff, start, temperature, pressure=None, timestep=0.004, friction=FRICTION, **settings
):
    """Samples in the units of the engine; temperature, pressure, step and friction are reduced."""
    bar = None if pressure is None else pressure * PRESSURE / BAR
    settings |= {"timestep": timestep * TAU, "friction": friction / TAU}
    with redirect_stdout(io.StringIO()):
        return sample(model(cutoff), start, temperature * KELVIN, bar, **settings)


def melt(cutoff, density, temperature, n_sites=N_SITES, n_steps=3000, seed=0):
    """A liquid start: the lattice molten at four times the temperature."""
    settings = {"n_steps": n_steps, "n_equilibration": 0, "sample_interval": n_steps}
    hot = lattice(density, n_sites, seed)
    key = ("melt", cutoff, density, temperature, seed)
    end = simulate(cutoff, hot, 4.0 * temperature, timestep=0.002, seed_key=key, **settings)
    return Start(end["positions"], hot.box, None, hot.topology)


@dataclass
class Sums:
    """Per frame, reduced: energies and virials -sum r U'(r) of the pairs within the cut-off.

    ``full`` is the plain potential, ``lfs`` the shifted one; volume in sigma^3.
    """

    full: np.ndarray
    full_virial: np.ndarray
    lfs: np.ndarray
    lfs_virial: np.ndarray
    volume: np.ndarray


def pairs(positions, box, cutoff):
    """(i, j, vectors from j to i, distances) of pairs within the cut-off, by a k-d tree."""
    tree = cKDTree(np.mod(positions, box) % box, boxsize=box)
    i, j = tree.query_pairs(cutoff, output_type="ndarray").T
    step = positions[i] - positions[j]
    step -= box * np.round(step / box)
    return i, j, step, np.sqrt((step**2).sum(axis=1))


def pair_distances(positions, box, cutoff):
    return pairs(positions, box, cutoff)[-1]


def sums(result, cutoff):
    """:class:`Sums` of the kept configurations of a run."""
    rows = []
    for positions, box in zip(result["trajectory"], result["trajectory_box"]):
        r = pair_distances(positions / SIGMA, box / SIGMA, cutoff)
        rows.append(
            [
                lj(r).sum(),
                -(r * lj_slope(r)).sum(),
                shifted(r, cutoff).sum(),
                -(r * shifted_slope(r, cutoff)).sum(),
                box.prod() / SIGMA**3,
            ]
        )
    return Sums(*np.array(rows).T)


def tail_energy(density, cutoff):
    """Long-range correction of U/N for g(r) = 1 beyond the cut-off."""
    return 8.0 / 3.0 * np.pi * density * (cutoff**-9.0 / 3.0 - cutoff**-3.0)


def tail_pressure(density, cutoff):
    return 16.0 / 3.0 * np.pi * density**2 * (2.0 / 3.0 * cutoff**-9.0 - cutoff**-3.0)


@dataclass
class Estimate:
    """A mean, its standard error, and the degrees of freedom of that error."""

    value: float
    error: float
    dof: int

    def z(self, reference, reference_error=0.0):
        return (self.value - reference) / np.hypot(self.error, reference_error)

    @property
    def limit(self):
        """Number of standard errors exceeded by chance once in 10,000 tests."""
        return stats.t.isf(0.5e-4, self.dof)

    def row(self, name, reference, reference_error=0.0):
        """A row of the table in docs/verification.md."""
        known = f"{reference:.6g}" + (f" ± {reference_error:.2g}" if reference_error else "")
        z = self.z(reference, reference_error)
        return f"| {name} | {self.value:.6g} ± {self.error:.2g} | {known} | {z:+.1f} |"

    def assert_agrees(self, reference, reference_error=0.0):
        assert abs(self.z(reference, reference_error)) < self.limit, self.row(
            "", reference, reference_error
        )


def estimate(values, log_weights=None, n_blocks=100):
    """Mean of correlated samples, weighted if asked, with the jackknife over blocks."""
    values = np.asarray(values, float)
    weights = np.ones(len(values))
    if log_weights is not None:
        weights = np.exp(log_weights - log_weights.max())
    n_blocks = min(n_blocks, len(values))
    blocks = np.array_split(np.arange(len(values)), n_blocks)
    above = np.array([(weights[b] * values[b]).sum() for b in blocks])
    below = np.array([weights[b].sum() for b in blocks])
    left_out = (above.sum() - above) / (below.sum() - below)
    error = np.sqrt((n_blocks - 1) * left_out.var())
    return Estimate(above.sum() / below.sum(), error, n_blocks - 1)


def effective_fraction(log_weights):
    """Kish's effective number of samples over their number."""
    weights = np.exp(log_weights - log_weights.max())
    return weights.sum() ** 2 / (weights**2).sum() / len(weights)


def full_potential(found, cutoff, temperature, n_sites=N_SITES, n_blocks=100):
    """U/N and p of the full potential in NVT, and the effective fraction of samples."""
    log_weights = -(found.full - found.lfs) / temperature
    density = n_sites / found.volume[0]
    energy = estimate(found.full / n_sites, log_weights, n_blocks)
    virial = found.full_virial / (3.0 * found.volume)
    pressure = estimate(density * temperature + virial, log_weights, n_blocks)
    energy.value += tail_energy(density, cutoff)
    pressure.value += tail_pressure(density, cutoff)
    return energy, pressure, effective_fraction(log_weights)


def contact(result, cutoff, width=0.05):
    """g(r) at the cut-off, from the pairs within ``width`` of it."""
    found = []
    for positions, box in zip(result["trajectory"], result["trajectory_box"]):
        r = pair_distances(positions / SIGMA, box / SIGMA, cutoff + width)
        density = len(positions) / (box / SIGMA).prod()
        shell = 4.0 / 3.0 * np.pi * ((cutoff + width) ** 3 - (cutoff - width) ** 3)
        found.append((r > cutoff - width).sum() / (0.5 * len(positions) * density * shell))
    return np.mean(found)


def jump_pressure(density, cutoff, contact):
    """What a cut-off without a shift adds to -dA/dV beyond virial and long-range corrections.

    Scaling the box moves pairs across the step of U(c) at c: (2 pi/3) rho^2 c^3 U(c) g(c), of which
    the correction N u_tail(rho) has the opposite with g = 1.
    """
    return 2.0 / 3.0 * np.pi * density**2 * cutoff**3 * lj(cutoff) * (contact - 1.0)


def full_density(found, cutoff, temperature, pressure, sampled_pressure, n_sites=N_SITES):
    """Density of the full potential at a pressure -dA/dV, from NPT samples of LFS at another one.

    The reduced potentials differ by U_full - U_LFS + N u_tail(rho) + (p - p_sampled) V.
    """
    density = n_sites / found.volume
    work = found.full - found.lfs + n_sites * tail_energy(density, cutoff)
    work += (pressure - sampled_pressure) * found.volume
    log_weights = -work / temperature
    volume = estimate(found.volume, log_weights)
    return (
        Estimate(n_sites / volume.value, n_sites / volume.value**2 * volume.error, volume.dof),
        effective_fraction(log_weights),
    )


def second_virial(cutoff, temperature):
    """B2 of LFS and dB2/d(1/T): at low density p = T (rho + B2 rho^2), U/N = rho dB2/d(1/T)."""
    r = np.linspace(0.3, cutoff, 40001)
    energy = shifted(r, cutoff)
    boltzmann = np.exp(-energy / temperature)
    core = 0.3**3 / 3.0
    b2 = 2.0 * np.pi * (core - integrate.simpson((boltzmann - 1.0) * r**2, x=r))
    return b2, 2.0 * np.pi * integrate.simpson(boltzmann * energy * r**2, x=r)


def lfs_energy(positions, box, cutoff):
    """Energy of one configuration, all reduced."""
    return shifted(pair_distances(positions, box, cutoff), cutoff).sum()


@dataclass(frozen=True)
class Point:
    """A state of a reference table with its uncertainties; 0 where we know of none."""

    temperature: float
    density: float
    energy: float
    pressure: float
    energy_error: float = 0.0
    pressure_error: float = 0.0


# Full potential, cut at 3 sigma with long-range corrections, NVT Monte Carlo of 500 particles:
# mmlapps.nist.gov/srs/LJ_PURE/mc.htm. Its uncertainties are known to us for the points marked *;
# the others are given those of a neighbour, which is our assumption.
NIST = (
    Point(0.85, 0.001, -1.0317e-2, 8.4402e-4, 2e-5),  # *
    Point(0.85, 0.005, -5.1901e-2, 4.1003e-3, 7.53e-5, 5.05e-7),  # *
    Point(0.85, 0.009, -9.3973e-2, 7.1641e-3, 1.29e-4, 2.24e-6),  # *
    Point(0.85, 0.776, -5.5121, 6.7714e-3, 4.6e-4, 1.7e-3),  # *
    Point(0.85, 0.780, -5.5386, 4.7924e-2, 7.26e-4, 3.18e-3),  # *
    Point(0.85, 0.820, -5.7947, 0.55355, 7.26e-4, 3.18e-3),
    Point(0.85, 0.860, -6.0305, 1.2660, 2.38e-3, 1.36e-2),  # *
    Point(0.85, 0.900, -6.2391, 2.2314, 5.27e-3, 2.72e-2),  # *
    Point(0.90, 0.001, -9.9165e-3, 8.9429e-4, 2e-5),
    Point(0.90, 0.005, -4.9771e-2, 4.3569e-3, 7.53e-5, 5.05e-7),
    Point(0.90, 0.009, -8.9936e-2, 7.6363e-3, 1.29e-4, 2.24e-6),
    Point(0.90, 0.776, -5.4689, 0.24056, 4.20e-4, 2.74e-3),  # *
    Point(0.90, 0.780, -5.4956, 0.27851, 7.26e-4, 3.18e-3),
    Point(0.90, 0.820, -5.7456, 0.82386, 7.26e-4, 3.18e-3),
    Point(0.90, 0.860, -5.9753, 1.5781, 2.38e-3, 1.36e-2),
    Point(0.90, 0.900, -6.1773, 2.5848, 5.27e-3, 2.72e-2),
)

# Linear-force-shifted at 2.5 sigma, NVT molecular dynamics of 10,000 particles (LAMMPS):
# nist.gov/mml/csd/informatics/lammps-md-equation-state-pressure-vs-density-linear-force-shifted-...
# The energies at 0.001 miss the exact second virial coefficient by up to 2 %.
NIST_LFS = (
    Point(0.75, 0.001, -8.279e-3, 7.457e-4, 1.26e-4, 9.5e-8),
    Point(0.75, 0.005, -4.200e-2, 3.641e-3, 1.35e-4, 3.2e-7),
    Point(1.00, 0.001, -6.704e-3, 9.967e-4, 7.1e-5, 4.8e-8),
    Point(1.00, 0.005, -3.362e-2, 4.919e-3, 9.0e-5, 4.3e-7),
    Point(1.00, 0.010, -6.727e-2, 9.677e-3, 1.13e-4, 5.4e-7),
    Point(1.50, 0.001, -5.333e-3, 1.498e-3, 3.6e-5, 1.0e-7),
    Point(1.50, 0.005, -2.706e-2, 7.454e-3, 6.8e-5, 4.1e-7),
)
