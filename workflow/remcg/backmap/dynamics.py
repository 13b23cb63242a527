"""Langevin dynamics of atoms under exactly fixed sites and rigid bonds."""

import numpy as np

from remcg.backmap.constraints import UnreachableError
from remcg.backmap.linear import inverse_masses
from remcg.errors import SamplingError
from remcg.units import KB

OFF = 1e-10  # nm, how far a start may be from the manifold without being projected


class Dynamics:
    r"""Samples exp(-U/kT) on the manifold of fixed sites and rigid bonds.

    Geodesic BAOAB: kick, drift along the manifold, exact Ornstein–Uhlenbeck step of the velocities
    in its tangent space, drift, kick. Drifts are RATTLE steps, kicks and noise are projected with
    the masses as metric. Sites are linear, so their metric is constant and needs no correction;
    rigid bonds have the measure of the reference runs.

    Parameters
    ----------
    atoms : remcg.backmap.atoms.Atoms
        Or anything with ``masses`` and ``forces(positions)``; ``energy`` for :attr:`potential`.
    constraints : remcg.backmap.constraints.Constraints
    timestep : float
        ps.
    friction : float
        1/ps.

    Attributes
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm.
    temperature : float
        K, of the thermostat.
    n_steps : int
        Since the start.

    References
    ----------
    Leimkuhler and Matthews, Proc. R. Soc. A 472, 20160138 (2016), g-BAOAB with one RATTLE step per
    drift.
    """

    def __init__(self, atoms, constraints, timestep=0.002, friction=5.0):
        self.atoms, self.constraints = atoms, constraints
        self.timestep, self.friction = float(timestep), float(friction)
        self._inverse = inverse_masses(atoms.masses)[:, None]

    def start(self, positions, sites, temperature, rng):
        """Take positions (n_atoms, 3) over sites (n_sites, 3), nm; velocities are drawn.

        Positions off the manifold are projected onto it; virtual sites need not be in place.
        """
        self.sites, self.temperature, self._rng = np.array(sites, float), float(temperature), rng
        self.positions = np.array(positions, float)
        if max(self.constraints.residual(self.positions, self.sites)) > OFF:
            self.positions = self.constraints.project(self.positions, self.sites)
        self.n_steps = 0
        self._forces = self._evaluate()
        self._velocities = self.constraints.project_velocities(self._noise(), self.positions)
        self._kicked = self._velocities
        self._pending = 0.0  # time for which the present forces have not acted yet

    def run(self, n_steps, temperature=None):
        """Go on by ``n_steps``, at another temperature (K) from now on if one is given."""
        if temperature is not None:
            self.temperature = float(temperature)
        half, constraints = 0.5 * self.timestep, self.constraints
        keep = np.exp(-self.friction * self.timestep)
        renew = np.sqrt(-np.expm1(-2.0 * self.friction * self.timestep))
        x, v = self.positions, self._velocities
        try:
            for _ in range(n_steps):
                v = v + (self._pending + half) * self._inverse * self._forces
                v = self._kicked = constraints.project_velocities(v, x)
                y = constraints.project(x + half * v, self.sites, x)
                v = keep * (y - x) / half + renew * self._noise()
                v = constraints.project_velocities(v, y)
                x = constraints.project(y + half * v, self.sites, y)
                v = (x - y) / half
                self.positions, self._velocities, self._pending = x, v, half
                self.n_steps += 1
                self._forces = self._evaluate()
        except UnreachableError as error:
            raise SamplingError(
                f"constrained dynamics, step {self.n_steps + 1}: rigid bonds cannot be kept,"
                " because the atoms move too far in a step; minimise longer before it, or shorten"
                f" the timestep ({self.timestep:g} ps)"
            ) from error

    @property
    def velocities(self):
        """Of the present positions, shape (n_atoms, 3), nm/ps."""
        kicked = self._velocities + self._pending * self._inverse * self._forces
        return self.constraints.project_velocities(kicked, self.positions)

    @property
    def potential(self):
        """Potential energy of the present positions, kJ/mol."""
        return self.atoms.energy(self.positions)

    @property
    def kinetic_temperature(self):
        """Twice the kinetic energy over k and the constrained degrees of freedom, K.

        Of the velocities in the drifts of the last step, which are Maxwellian also where the
        timestep is not small against the fastest vibration, as those of whole steps are not.
        """
        twice = (np.asarray(self.atoms.masses)[:, None] * self._kicked**2).sum()
        return float(twice / (KB * self.constraints.degrees_of_freedom))

    def _noise(self):
        """Maxwell velocities of free atoms, nm/ps."""
        normal = self._rng.standard_normal(self.positions.shape)
        return np.sqrt(KB * self.temperature * self._inverse) * normal

    def _evaluate(self):
        forces = self.atoms.forces(self.positions)
        if not np.isfinite(forces).all():
            raise SamplingError(
                f"constrained dynamics, step {self.n_steps}: forces are not finite; minimise longer"
                f" before it, or shorten the timestep ({self.timestep:g} ps)"
            )
        return forces
