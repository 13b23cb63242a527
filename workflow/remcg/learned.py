"""What the iterations of a campaign learned, as the tables and figures of stage ``model``."""

from typing import NamedTuple

import numpy as np

from remcg import identify, plot_learning
from remcg.convergence import noise_of_directions
from remcg.optimize import divergence
from remcg.spectrum import amplitudes, spectrum
from remcg.stored import joint_objective, relative_entropy_path
from remcg.uncertainty import potential_bands


class Learned(NamedTuple):
    """The course of the relative entropy, its sources of noise, and the measured directions.

    Attributes
    ----------
    path : list of dict
        See :func:`remcg.stored.relative_entropy_path`.
    noise : list of (int, float, float)
        Iteration, and the divergence that the noise of its model samples and of the reference
        causes, nats.
    spectrum : remcg.spectrum.Spectrum
    amplitudes : ndarray, shape (rank,)
        Standard errors along the directions, square root of nats.
    unsampled : list of remcg.identify.Unsampled
    bands : dict
        Training temperature, K, to :func:`remcg.uncertainty.potential_bands`.
    """

    path: list
    noise: list
    spectrum: object
    amplitudes: np.ndarray
    unsampled: list
    bands: dict


def learn(model, covariance, data, observations):
    """Analyse all iterations.

    Parameters
    ----------
    model : Model
        The final one; its potentials have bands where it has a covariance.
    covariance : ndarray, shape (n_params, n_params), (kJ/mol)^2
        Of the parameters at a minimum of the relative entropy.
    data : list of remcg.optimize.StateData
        With the samples of the last iteration.
    observations : list of remcg.optimize.Observation
        Oldest first.
    """
    last = observations[-1]
    metric, free = last.metric, np.diag(last.metric) > 0.0
    if last.stage == "local":
        metric = joint_objective(model, data, observations, "local").at(model.parameters).metric
    found, known = spectrum(metric, free), model.extra.get("covariance")
    return Learned(
        relative_entropy_path(model, data, observations),
        [_noise(model, k, o) for k, o in enumerate(observations)],
        found,
        amplitudes(found, metric, covariance),
        identify.unsampled(model, free),
        {d.temperature: potential_bands(model, known, d.temperature) for d in data},
    )


def _noise(model, number, observation):
    free = np.diag(observation.metric) > 0.0
    if observation.stage == "global":
        for term, part in zip(model.terms, model.parameter_slices):
            if term.kind == "volume":
                free[part] = False
    sampling = 0.5 * float(noise_of_directions(observation, free)[0].sum())
    return number, sampling, divergence(observation.metric, observation.reference_noise, free)


def write_tables(paths, learned, model):
    """Tables: ``paths`` has entropy, noise, spectrum, directions, unsampled and bands."""
    plot_learning.write_entropy_table(paths.entropy, learned.path)
    plot_learning.write_noise_table(paths.noise, *zip(*learned.noise))
    plot_learning.write_spectrum_table(paths.spectrum, learned.spectrum, learned.amplitudes)
    numbers, curves = _shown(learned, model)
    labels = [f"direction_{n}" for n in numbers]
    plot_learning.write_directions_table(paths.directions, curves, labels)
    plot_learning.write_unsampled_table(paths.unsampled, learned.unsampled)
    plot_learning.write_bands_table(paths.bands, learned.bands)


def draw_figures(paths, learned, model):
    """Figures: ``paths`` has each of the tables' names but unsampled, with ``_figure``."""
    plot_learning.entropy_figure(paths.entropy_figure, learned.path)
    plot_learning.noise_figure(paths.noise_figure, *zip(*learned.noise))
    plot_learning.bands_figure(paths.bands_figure, _unbonded(learned.bands))
    plot_learning.spectrum_figure(paths.spectrum_figure, learned.spectrum, len(learned.unsampled))
    numbers, curves = _shown(learned, model)
    errors = learned.amplitudes[np.array(numbers) - 1]
    plot_learning.directions_figure(
        paths.directions_figure, curves, numbers, errors, len(numbers) // 2
    )


def _unbonded(bands):
    """Bands without the bonded terms, which ``validate/bonded_potentials.png`` has."""
    kept = {
        T: {name: curve for name, curve in found.items() if curve["kind"] in ("pair", "volume")}
        for T, found in bands.items()
    }
    return kept if all(kept.values()) else bands


def _shown(learned, model):
    """Numbers of the stiffest and the sloppiest directions, and these as potentials, one SE."""
    rank = len(learned.amplitudes)
    n = max(min(plot_learning.SHOWN, rank // 2), 1)
    numbers = [*range(1, n + 1), *range(rank - n + 1, rank + 1)]
    index = np.array(numbers) - 1
    vectors = learned.spectrum.directions[index] * learned.amplitudes[index, None]
    return numbers, identify.directions(model, model.reference_temperature, vectors)
