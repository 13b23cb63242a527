"""Sites and how they are bonded: what the engine must know of molecules."""

from dataclasses import dataclass, field

import numpy as np

from remcg.errors import InputError

EXCLUSIONS = ("1-2", "1-3", "1-4")


def _none(n_members):
    return field(default_factory=lambda: np.zeros((0, n_members), np.int64))


@dataclass(frozen=True)
class Topology:
    """Sites, molecules and bonded groups.

    Attributes
    ----------
    site_types : ndarray, shape (n_sites,)
        Indices into the model's ``site_types``.
    masses : ndarray, shape (n_sites,)
        amu.
    molecule : ndarray, shape (n_sites,), optional
        Molecule of each site, 0 ... n_molecules - 1; by default every site is one.
    bonds, angles, dihedrals : ndarray, shape (n, 2), (n, 3), (n, 4)
        Sites of each group, in the order of the chain.
    """

    site_types: np.ndarray
    masses: np.ndarray
    molecule: np.ndarray = None
    bonds: np.ndarray = _none(2)
    angles: np.ndarray = _none(3)
    dihedrals: np.ndarray = _none(4)

    def __post_init__(self):
        n_sites = len(self.site_types)
        molecule = np.arange(n_sites) if self.molecule is None else self.molecule
        object.__setattr__(self, "site_types", np.ascontiguousarray(self.site_types, np.int64))
        object.__setattr__(self, "masses", np.ascontiguousarray(self.masses, float))
        object.__setattr__(self, "molecule", np.ascontiguousarray(molecule, np.int64))
        for name, n_members in (("bonds", 2), ("angles", 3), ("dihedrals", 4)):
            groups = np.asarray(getattr(self, name), np.int64).reshape(-1, n_members)
            if groups.size and not 0 <= groups.min() <= groups.max() < n_sites:
                raise InputError(
                    f"{name} name the sites {groups.min()} to {groups.max()}, but there are"
                    f" {n_sites}; count sites from 0"
                )
            object.__setattr__(self, name, np.ascontiguousarray(groups))

    @property
    def n_sites(self):
        return len(self.site_types)

    @property
    def n_molecules(self):
        return int(self.molecule.max(initial=-1)) + 1
