r"""How fast models along the front of structure against pressure move: dynamics as another axis.

Nothing that was sampled tells how a diffusion coefficient changes with a potential, so that some
models of the front are moved anew at one training state, in a fixed box, with a thermostat that is
too weak to matter. The same is done with the chosen model and a Langevin thermostat that slows it
to the reference. Were friction by forces and by the thermostat to add up, its friction would be

.. math:: \gamma = \frac{kT}{M} \left(\frac{1}{D_{ref}} - \frac{1}{D_{model}}\right);

they do not quite, so that a run with this one is followed by one with what 1/D, taken as linear
between the two, asks for. A Langevin thermostat changes no average over configurations: whatever
its friction, no structure is lost.
"""

from dataclasses import dataclass

import numpy as np

from remcg.boxes import heights, many
from remcg.consistency import dynamics
from remcg.consistency.state import SETTLING, moved, n_free_steps
from remcg.engine.replica import Start
from remcg.errors import SamplingError
from remcg.sample import read_topology
from remcg.units import KB

FRICTION = 0.1  # 1/ps
N_MODELS = 3  # of the front
SHARE = 0.5  # of the steps of a free run
N_LAGS = 400


@dataclass(frozen=True)
class Pace:
    """One model that was moved.

    Attributes
    ----------
    name : str
    loss, loss_se : float
        nats per molecule above the chosen model.
    ratio, ratio_se : float
        Diffusion coefficient over that of the reference.
    friction : float
        Of the thermostat, 1/ps.
    weight : float or None
        Of the pressure, for models of the front.
    """

    name: str
    loss: float
    loss_se: float
    ratio: float
    ratio_se: float
    friction: float
    weight: float | None = None


def chosen_state(states, numbers):
    """Index of the training state with a known diffusion of the reference next to the middle."""
    known = [
        k for k, (state, row) in enumerate(zip(states, numbers))
        if state.use == "train" and row.get("diffusion_nm2_ps", {}).get("reference", 0.0) > 0.0
    ]  # fmt: skip
    if not known:
        return None
    middle = np.mean([states[k].temperature for k in known])
    return min(known, key=lambda k: abs(states[k].temperature - middle))


def of_campaign(model, guess, states, samples, numbers, front, marked, seed):
    """:func:`measure` at :func:`chosen_state`.

    Parameters
    ----------
    states : sequence of remcg.config.State
    samples : sequence of (dict, dict)
        Content of ``predict/<state>.h5``.
    numbers : list of dict
        Of the consistency of each state.
    front : remcg.consistency.tradeoff.Front or None

    Returns
    -------
    (list of Pace, str)
        And the id of the state; empty without a front or a diffusion of the reference.
    """
    k = None if front is None else chosen_state(states, numbers)
    if k is None:
        return [], ""
    own = numbers[k]["diffusion_nm2_ps"]
    reference = own["reference"], own["reference_se"]
    rows = model, guess, states[k], samples[k], reference, front, marked, seed
    return measure(*rows), states[k].id


def measure(model, guess, state, sample, reference, front, marked, seed):
    """Models of the front, the guess and the chosen model with friction, all moved.

    Parameters
    ----------
    model, guess : Model
    state : remcg.config.State
    sample : (dict, dict)
        Content of ``predict/<state>.h5``.
    reference : (float, float)
        Diffusion coefficient of the reference and its standard error, nm^2/ps.
    front : remcg.consistency.tradeoff.Front
    marked : dict
        As from :func:`remcg.consistency.tradeoff.points`.
    seed : int

    Returns
    -------
    list of Pace
        The first of the front is the chosen model. Without those whose dynamics failed; empty if
        that of the chosen model did.
    """

    def moved_model(name, loss, changed, friction, key, weight=None):
        try:
            own = diffusion(changed, state.temperature, sample, friction, (seed, key))
        except SamplingError as error:
            print(f"dynamics: {name} is left out of the front: {error}")
            return None
        ratio = dynamics.speed_up(own, dynamics.Diffusion(*reference, 0.0))
        return Pace(name, *map(float, loss), *ratio, friction, weight)

    found = []
    for k in _spaced(front):
        changed, loss = model.parameters + front.changes[k], (front.loss[k], front.loss_se[k])
        found.append(moved_model("front", loss, model.with_parameters(changed), FRICTION, int(k),
                                 float(front.weights[k])))  # fmt: skip
    if found[0] is None:
        return []
    name = "Boltzmann inversion"
    if name in marked:
        found.append(moved_model(name, marked[name][2:], guess, FRICTION, "guess"))
    if found[0].ratio > 1.0:
        name, loss = "chosen model with friction", (0.0, 0.0)
        friction = _added_friction(sample, state.temperature, reference[0], found[0].ratio)
        first = moved_model(name, loss, model, friction, "slowed")
        if first is not None and first.ratio < found[0].ratio:
            slope = (1.0 / first.ratio - 1.0 / found[0].ratio) / (friction - FRICTION)
            friction = FRICTION + (1.0 - 1.0 / found[0].ratio) / slope
            found.append(moved_model(name, loss, model, friction, "matched"))
    return [pace for pace in found if pace is not None]


def _added_friction(sample, temperature, reference, ratio):
    """That would slow a model by ``ratio`` if frictions added up, 1/ps."""
    inverse_mass = float(np.mean(1.0 / _molecular_masses(sample)))
    return KB * temperature * inverse_mass / reference * (1.0 - 1.0 / ratio)


def _spaced(front):
    """Indices of N_MODELS points at about equal steps of the loss, the chosen model first."""
    usable = np.argsort(front.weights)
    usable = usable[front.is_local[usable]]
    wanted = np.linspace(0.0, front.loss[usable].max(), N_MODELS)
    chosen = [usable[np.argmin(np.abs(front.loss[usable] - loss))] for loss in wanted]
    return list(dict.fromkeys(chosen))


def _molecular_masses(sample):
    topology = read_topology(sample[0])
    return np.bincount(topology.molecule, topology.masses)


def diffusion(model, temperature, sample, friction, key):
    """Diffusion coefficient of a model in a fixed box, from where its prediction ended.

    Returns
    -------
    remcg.consistency.dynamics.Diffusion
    """
    arrays, attributes = sample
    topology = read_topology(arrays)
    start = Start(arrays["positions"][0], arrays["box"][0], arrays["velocities"][0], topology)
    start = start.with_volume(float(arrays["volume"].mean()))
    timestep = float(attributes["timestep"])
    settings = {"timestep": timestep, "seed_key": ("pace", *key)}
    _, start = moved(model, start, temperature, SETTLING, SETTLING, 1.0, settings)
    n_steps = round(SHARE * n_free_steps(topology))
    every = n_steps // N_LAGS
    (frames, boxes), _ = moved(model, start, temperature, n_steps, every, friction, settings)
    path = dynamics.unwrapped(dynamics.centres(frames, topology, boxes), boxes)
    msd = dynamics.mean_squared_displacement(path)
    times = every * timestep * np.arange(len(msd))
    return dynamics.diffusion(times, dynamics.groups_of(msd), float(heights(many(boxes)).min()))
