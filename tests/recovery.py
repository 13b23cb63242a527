"""REM of a known model from its own trajectories, round by round, without Snakemake."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace

import h5py
import numpy as np

from remcg import ensembles, optimize, target
from remcg.config import State
from remcg.engine.replica import Start
from remcg.guess import guess
from remcg.io import write_h5
from remcg.pairs import rdf_edges
from remcg.sample import sample, topology_arrays
from remcg.statistics import standard_error
from remcg.uncertainty import pressure_response
from remcg.units import KB

MAX_KL, CONFIDENCE = 20.0, 0.99


def quiet(*arguments, **settings):
    """A run without progress lines."""
    with redirect_stdout(io.StringIO()):
        return sample(*arguments, **settings)


@dataclass
class Truth:
    """A model, its states (config.State, one trajectory each) and a start for each of them."""

    model: object
    states: list
    starts: list
    timestep: float
    friction: float
    seed: int = 1


@dataclass
class Settings:
    """What the learner samples in each round, and its reference."""

    n_frames: int = 2000
    frame_interval: int = 50
    n_steps: int = 20_000
    n_equilibration: int = 2000
    n_replicas: int = 2
    sample_interval: int = 20


@dataclass
class Recovery:
    """One campaign in a folder; :meth:`round` samples all states and makes the next model."""

    folder: object
    truth: Truth
    terms: list
    settings: Settings = field(default_factory=Settings)
    smoothness: float | str = 0.0

    def __post_init__(self):
        self.edges = rdf_edges(max(t.basis.r_cut for t in self.terms if t.kind == "pair"))
        self.targets, self.true_pressures, found = [], [], []
        for state, start in zip(self.truth.states, self.truth.starts):
            result = self._reference(state, start)
            self.true_pressures.append(standard_error(result["pressure"][None]))
            path = self.folder / f"map-{state.id}.h5"
            names = json.dumps(list(self.truth.model.site_types))
            n_molecules = start.topology.n_molecules
            write_h5(
                path,
                {
                    "positions": result["trajectory"],
                    "box": result["trajectory_box"],
                    **topology_arrays(start.topology),
                },
                {"site_names": names, "state": state.id, "n_molecules": n_molecules},
            )
            self.targets.append(self.folder / f"target-{state.id}.h5")
            exclude = self.truth.model.exclude
            write_h5(self.targets[-1], *target.compute(path, self.terms, exclude=exclude))
            found.append(ensembles.read_state_target(self.targets[-1], state))
        reference_temperature = np.mean([state.temperature for state in self.truth.states])
        v0 = float(np.mean([s.volume / s.n_molecules for s in found]))
        self.model = guess(
            self.truth.model.site_types,
            self.terms,
            float(reference_temperature),
            v0,
            found,
            self.truth.model.exclude,
        )
        self.starts = [self._fixed(s, state) for s, state in zip(self.truth.starts, found)]
        self.stage, self.history, self.plans = "global", [], []
        self.effort = {state.id: optimize.FAR_SHARE for state in self.truth.states}

    def _reference(self, state, start):
        chosen, truth = self.settings, self.truth
        return quiet(
            truth.model,
            start,
            state.temperature,
            state.pressure,
            n_steps=chosen.n_frames * chosen.frame_interval,
            n_equilibration=10 * chosen.frame_interval,
            timestep=truth.timestep,
            friction=truth.friction,
            sample_interval=chosen.frame_interval,
            keep=chosen.n_frames,
            seed_key=("truth", truth.seed, state.id),
        )

    def _fixed(self, start, state_target):
        return [start.with_volume(state_target.volume)] * self.settings.n_replicas

    def sample(self, model, stage, number):
        """Sample files of all states."""
        chosen, paths = self.settings, []
        for k, state in enumerate(self.truth.states):
            pressure = state.pressure if stage == "local" else None
            share = self.effort.get(state.id, 1.0)
            n_steps = round(chosen.n_steps * share / chosen.sample_interval)
            results = [
                quiet(
                    model,
                    start,
                    state.temperature,
                    pressure,
                    n_steps=n_steps * chosen.sample_interval,
                    n_equilibration=chosen.n_equilibration,
                    timestep=self.truth.timestep,
                    friction=self.truth.friction,
                    sample_interval=chosen.sample_interval,
                    rdf_edges=self.edges,
                    seed_key=("recovery", self.truth.seed, state.id, number, i),
                )
                for i, start in enumerate(self.starts[k])
            ]
            topology = self.starts[k][0].topology
            self.starts[k] = [
                Start(r["positions"], r["box"], r["velocities"], topology) for r in results
            ]
            names = ("site_sums", "volume", "energy", "pressure", "rdf_blocks")
            arrays = {name: np.stack([r[name] for r in results]) for name in names}
            paths.append(self.folder / f"sample-{number}-{state.id}.h5")
            write_h5(paths[-1], {**arrays, "rdf_edges": self.edges}, {})
        return paths

    def round(self):
        """Sample the present model and make the next; the plan."""
        self.samples = self.sample(self.model, self.stage, len(self.history))
        self.data = ensembles.read_training_data(
            self.model, self.truth.states, self.targets, self.samples
        )
        self.model, observation, plan = optimize.update(
            self.model,
            self.data,
            self.stage,
            self.history,
            MAX_KL,
            CONFIDENCE,
            self.smoothness,
            self.plans[-1] if self.plans else None,
        )
        self.history.append(observation)
        self.plans.append(plan)
        self.stage, self.effort = plan["stage"], plan.get("effort", {})
        if plan["restart"] == "reference":
            found = map(ensembles.read_state_target, self.targets, self.truth.states)
            self.starts = [self._fixed(s, f) for s, f in zip(self.truth.starts, found)]
        return plan

    def run(self, n_rounds):
        for _ in range(n_rounds):
            if self.round()["verdict"] == "converged":
                break
        return self.plans

    def finished(self):
        """The last model with the covariance of its parameters."""
        return optimize.finish(self.model, self.data, self.history, "continue", {})

    def predict(self, n_steps):
        """Sample the last model for longer; what follows is from these samples."""
        self.settings, self.effort = replace(self.settings, n_steps=n_steps), {}
        self.samples = self.sample(self.model, self.stage, "predict")

    def rdf_deviation(self):
        """Largest deviation of any g(r) in the last samples, per state."""
        deviations = []
        for path, at in zip(self.targets, self.samples):
            with h5py.File(path, "r") as reference, h5py.File(at, "r") as found:
                step = found["rdf_blocks"][()].mean(axis=(0, 1)) - reference["rdf_blocks"][()].mean(
                    axis=0
                )
                deviations.append(np.abs(step).max())
        return deviations

    def pressures(self):
        """Virial pressure of the last samples and its error, kJ/mol/nm^3, per state.

        The error has a part from these samples and one from the parameters.
        """
        covariance = self.finished().extra["covariance"]
        found = []
        for d, path in zip(self.data, self.samples):
            slopes = pressure_response(
                d.pressure_samples, d.phi, d.temperature, d.pressure_slopes
            ) @ self.model.design(d.temperature)
            with h5py.File(path, "r") as file:
                value, error = standard_error(file["pressure"][()])
            found.append((value, np.hypot(error, np.sqrt(slopes @ covariance @ slopes))))
        return found


def potential_error(truth, found, temperature, rdf_file):
    r"""Per pair term the g-weighted rms of the difference of two potentials, in kT.

    .. math:: \left[\frac{\int g (U_1 - U_2)^2 r^2 dr}{\int g r^2 dr}\right]^{1/2}

    over r with g > 0.1, up to nothing: both vanish at the cut-off.
    """
    with h5py.File(rdf_file, "r") as file:
        edges, rdfs = file["rdf_fine_edges"][()], file["rdf_fine"][()]
        names = json.loads(file.attrs["pair_names"])
    r = 0.5 * (edges[1:] + edges[:-1])
    errors = {}
    for term, theta in zip(found.terms, found.term_theta(temperature)):
        if term.kind != "pair":
            continue
        true_term = next(t for t in truth.pair_terms if t.name == term.name)
        true_theta = truth.term_theta(temperature)[truth.terms.index(true_term)]
        step = term.basis.values(r) @ theta - true_term.basis.values(r) @ true_theta
        g = rdfs[names.index(term.name)]
        weight = np.where((g > 0.1) & (r < term.basis.r_cut), g * r**2, 0.0)
        errors[term.name] = float(np.sqrt((weight @ step**2) / weight.sum()) / (KB * temperature))
    return errors


def state(name, temperature, pressure=None):
    return State(name, float(temperature), ["-"], pressure)
