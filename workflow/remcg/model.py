"""The CG model: terms that are linear in their parameters, with theta(T) polynomial in tau.

.. math:: U(R, V; T) = \\sum_k \\theta_k(T) \\phi_k(R, V), \\quad
          \\theta_k(T) = A_k - \\tau B_k + \\tau^2 C_k, \\quad \\tau = (T - T_0)/T_0
"""

from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.errors import InputError
from remcg.forms import AngleCosines, DihedralCosines, HarmonicBasis
from remcg.io import read_json, write_json

FORMAT = 1
TEMPERATURE_ORDERS = {"constant": 1, "linear": 2, "quadratic": 3, "cubic": 4, "quartic": 5}
ORDER_LETTERS = "ABCDE"
FORMS = {  # bases of each kind of term, by the names that the config and the model file give them
    "pair": {"spline": SplineBasis},
    "bond": {"spline": BondBasis, "harmonic": HarmonicBasis},
    "angle": {"spline": AngleBasis, "cosine": AngleCosines},
    "dihedral": {"spline": PeriodicBasis, "cosine": DihedralCosines},
}


def canonical(sites):
    """One reading of a group of site types for its two directions: the smaller one."""
    sites = tuple(sites)
    return min(sites, sites[::-1])


@dataclass(frozen=True)
class SiteTerm:
    """Potential in a coordinate x of a few sites, U(x) in a basis; its kinds follow.

    Basis sums: phi_k = sum over the groups of sites it acts on of B_k(x).

    Attributes
    ----------
    sites : tuple of str
        Site types.
    basis : one of the classes in FORMS
    n_orders : int
        Number of orders in temperature.
    """

    sites: tuple
    basis: object
    n_orders: int

    @property
    def name(self):
        """Name in files and tables: A-B, A-B-A, ..."""
        return "-".join(self.sites)

    @property
    def n_basis(self):
        """Number of basis functions."""
        return self.basis.n_basis

    @property
    def form(self):
        """Name of the basis: "spline", "harmonic" or "cosine"."""
        return next(
            name for name, basis in FORMS[self.kind].items() if isinstance(self.basis, basis)
        )

    def to_dict(self):
        """What ``model.json`` says of the term, without its coefficients."""
        is_spline = self.form == "spline"
        return {
            "kind": self.kind,
            "sites": list(self.sites),
            **({} if is_spline else {"form": self.form}),
            **asdict(self.basis),
            "n_orders": self.n_orders,
            **({"knots": self.basis.knots} if is_spline else {}),
        }

    @classmethod
    def from_dict(cls, item):
        """The term that :meth:`to_dict` describes."""
        form = FORMS[cls.kind][item.get("form", "spline")]
        basis = form(**{each.name: item[each.name] for each in fields(form)})
        return cls(tuple(item["sites"]), basis, item["n_orders"])


class PairTerm(SiteTerm):
    """Pairs of two site types that are not excluded; x = distance, nm."""

    kind = "pair"


@dataclass(frozen=True)
class BondedTerm(SiteTerm):
    """Bonded groups whose site types read as ``sites`` forwards or backwards.

    ``sites`` is kept in its canonical reading.
    """

    def __post_init__(self):
        object.__setattr__(self, "sites", canonical(self.sites))
        if len(self.sites) != self.n_sites:
            raise InputError(
                f"the {self.kind} term {self.name} names {len(self.sites)} site types; give"
                f" {self.n_sites}"
            )

    def fits(self, sites):
        """Whether the term acts on a group of these site types, in this order."""
        return canonical(sites) == self.sites


class BondTerm(BondedTerm):
    """Bonds; x = length, nm."""

    kind = "bond"
    n_sites = 2


class AngleTerm(BondedTerm):
    """Angles; x = angle at the middle site, 0 to pi rad."""

    kind = "angle"
    n_sites = 3


class DihedralTerm(BondedTerm):
    """Dihedrals; x = -pi to pi rad, 0 for cis (IUPAC)."""

    kind = "dihedral"
    n_sites = 4


@dataclass(frozen=True)
class VolumeTerm:
    """U_V = N_mol [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2] with v = V/N_mol.

    Basis sums: phi_1 = V/v0 and phi_2 = N_mol ((v - v0)/v0)^2 (Das and Andersen, J. Chem. Phys.
    132, 164106 (2010), per molecule and with one centre v0 for all states).
    """

    n_basis: int
    n_orders: int
    kind = "volume"
    name = "volume"

    def to_dict(self):
        """What ``model.json`` says of the term, without its coefficients."""
        return {"kind": "volume", "n_basis": self.n_basis, "n_orders": self.n_orders}

    @staticmethod
    def from_dict(item):
        """The term that :meth:`to_dict` describes."""
        return VolumeTerm(item["n_basis"], item["n_orders"])

    def basis_sums(self, volume, n_molecules, v0):
        """phi_1, phi_2 of each volume (nm^3), shape volume.shape + (n_basis,)."""
        x = np.asarray(volume, float) / (n_molecules * v0)
        return n_molecules * np.stack([x, (x - 1.0) ** 2][: self.n_basis], axis=-1)


TERMS = {term.kind: term for term in (PairTerm, BondTerm, AngleTerm, DihedralTerm, VolumeTerm)}


@dataclass(frozen=True)
class Model:
    """A CG potential for all temperatures.

    Attributes
    ----------
    site_types : tuple of str
    terms : tuple of PairTerm, BondTerm, AngleTerm, DihedralTerm or VolumeTerm
    reference_temperature : float
        T0, K.
    v0 : float
        Centre of the volume term, nm^3 per molecule.
    coefficients : tuple of ndarray
        Per term, shape (n_orders, n_basis): rows A, B, C, kJ/mol.
    extra : dict
        What else ``model.json`` carries (covariance, hashes of inputs).
    exclude : tuple of str
        Bonded neighbours on which pair terms do not act: "1-2", "1-3", "1-4".
    """

    site_types: tuple
    terms: tuple
    reference_temperature: float
    v0: float
    coefficients: tuple
    extra: dict = field(default_factory=dict, compare=False)
    exclude: tuple = ()

    @property
    def n_phi(self):
        """Number of basis functions of all terms: the length of basis sums and of theta(T)."""
        return sum(term.n_basis for term in self.terms)

    @property
    def n_params(self):
        """Number of parameters: basis functions times orders in temperature."""
        return sum(term.n_basis * term.n_orders for term in self.terms)

    @cached_property
    def phi_slices(self):
        """Per term, its columns in a frame's basis sums."""
        return _slices([term.n_basis for term in self.terms])

    @cached_property
    def parameter_slices(self):
        """Per term, its entries in :attr:`parameters`."""
        return _slices([term.n_basis * term.n_orders for term in self.terms])

    @property
    def parameters(self):
        """All coefficients, shape (n_params,), kJ/mol: per term A, then B, then C."""
        return np.concatenate([block.ravel() for block in self.coefficients])

    def with_parameters(self, parameters, **extra):
        """The same terms with other coefficients."""
        parameters = np.asarray(parameters, float)
        blocks = tuple(
            parameters[part].reshape(term.n_orders, term.n_basis).copy()
            for term, part in zip(self.terms, self.parameter_slices)
        )
        return replace(self, coefficients=blocks, extra=extra)

    def tau(self, temperature):
        """tau = (T - T0)/T0, dimensionless."""
        return (temperature - self.reference_temperature) / self.reference_temperature

    def design(self, temperature):
        """Matrix D with theta(T) = D @ parameters, shape (n_phi, n_params).

        This is the factor (x) c_s of the gradient and the Fisher matrix.
        """
        matrix = np.zeros((self.n_phi, self.n_params))
        for term, rows, part in zip(self.terms, self.phi_slices, self.parameter_slices):
            powers = (-self.tau(temperature)) ** np.arange(term.n_orders)
            matrix[rows, part] = np.kron(powers, np.eye(term.n_basis))
        return matrix

    def theta(self, temperature):
        """theta(T), shape (n_phi,), kJ/mol."""
        return self.design(temperature) @ self.parameters

    def term_theta(self, temperature):
        """theta(T) split by term: list of arrays (n_basis,)."""
        theta = self.theta(temperature)
        return [theta[rows] for rows in self.phi_slices]

    @property
    def pair_terms(self):
        """Terms of kind pair."""
        return [term for term in self.terms if isinstance(term, PairTerm)]

    @property
    def bonded_terms(self):
        """Terms of kind bond, angle and dihedral."""
        return [term for term in self.terms if isinstance(term, BondedTerm)]

    @property
    def site_terms(self):
        """Pair and bonded terms, in the order of the model."""
        return [term for term in self.terms if isinstance(term, SiteTerm)]

    @property
    def volume_term(self):
        """The volume term, or None."""
        return next((term for term in self.terms if term.kind == "volume"), None)

    def psi(self, temperature):
        """psi_1, psi_2 at T, kJ/mol; zeros where the model has no such term."""
        psi = np.zeros(2)
        for term, theta in zip(self.terms, self.term_theta(temperature)):
            if term.kind == "volume":
                psi[: term.n_basis] = theta
        return psi

    def volume_pressure(self, volume, n_molecules, temperature):
        """-dU_V/dV, kJ/mol/nm^3: what the volume term adds to the virial pressure."""
        psi = self.psi(temperature)
        return -(psi[0] + 2.0 * psi[1] * (volume / (n_molecules * self.v0) - 1.0)) / self.v0

    def with_added_pressure(self, temperatures, pressures):
        """Change psi_1(T) so that the volume term adds these pressures, by least squares.

        Parameters
        ----------
        temperatures, pressures : sequence of float
            K; kJ/mol/nm^3.
        """
        term = self.volume_term
        part = self.parameter_slices[self.terms.index(term)]
        psi_1 = np.arange(self.n_params)[part][:: term.n_basis]
        powers = np.arange(term.n_orders)
        rows = [-((-self.tau(temperature)) ** powers) / self.v0 for temperature in temperatures]
        parameters = self.parameters
        parameters[psi_1] += np.linalg.lstsq(np.array(rows), np.array(pressures), rcond=None)[0]
        return self.with_parameters(parameters)

    def basis_sums(self, site_sums, volume, n_molecules):
        """All basis sums of frames from those of their site terms and their volumes.

        Parameters
        ----------
        site_sums : ndarray, shape (..., number of functions of :attr:`site_terms`)
        volume : ndarray, shape (...), nm^3

        Returns
        -------
        ndarray, shape (..., n_phi)
        """
        parts, at = [], 0
        for term in self.terms:
            if isinstance(term, SiteTerm):
                parts.append(site_sums[..., at : at + term.n_basis])
                at += term.n_basis
            else:
                parts.append(term.basis_sums(volume, n_molecules, self.v0))
        return np.concatenate(parts, axis=-1)

    def to_dict(self):
        """Content of ``model.json``."""
        terms = [
            {**term.to_dict(), "coefficients": dict(zip(ORDER_LETTERS, block))}
            for term, block in zip(self.terms, self.coefficients)
        ]
        units = {"length": "nm", "energy": "kJ/mol", "temperature": "K"}
        if self.bonded_terms:
            units["angle"] = "rad"
        return {
            "format": FORMAT,
            "units": units,
            "site_types": list(self.site_types),
            "reference_temperature": self.reference_temperature,
            "v0": self.v0,
            **({"exclude": list(self.exclude)} if self.exclude else {}),
            "terms": terms,
            **self.extra,
        }

    @staticmethod
    def from_dict(content):
        """The model of a ``model.json``."""
        content = dict(content)
        content.pop("format"), content.pop("units")
        items = content.pop("terms")
        blocks = tuple(np.array(list(item["coefficients"].values())) for item in items)
        return Model(
            site_types=tuple(content.pop("site_types")),
            terms=tuple(TERMS[item["kind"]].from_dict(item) for item in items),
            reference_temperature=content.pop("reference_temperature"),
            v0=content.pop("v0"),
            coefficients=blocks,
            exclude=tuple(content.pop("exclude", ())),
            extra=content,
        )

    def write(self, path):
        """Write ``model.json``."""
        write_json(path, self.to_dict(), sealed=True)

    @staticmethod
    def read(path):
        """Read ``model.json``."""
        content = read_json(path)
        try:
            return Model.from_dict(content)
        except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
            raise InputError(
                f"{path}: is not a model.json of remcg ({type(error).__name__}: {error}); give one"
            ) from error


def _slices(sizes):
    edges = np.concatenate([[0], np.cumsum(sizes)])
    return [slice(a, b) for a, b in pairwise(edges)]
