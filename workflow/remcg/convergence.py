"""When the gradient is noise, and where more samples would lower that noise."""

import numpy as np

from remcg import statistics
from remcg.spectrum import spectrum

POOL_REACH = 0.25  # standard deviations of the features: linear response holds well
POOL_NOISE = 4.0  # standard errors: farther away is not noise
FRAMES_PER_DIRECTION = 5
LEAST_SHARE, MOST_SHARE = 0.5, 2.0  # of the sampling of a state, relative to the mean
LEAST_RANK = 4  # directions that a verdict must have looked at, where there are as many


def noise_of_directions(observation, free):
    r"""Variance that the model's sampling noise gives each direction of the minimum.

    In units where the Fisher matrix is one: of the step -F^{-1} g along the metric's eigenvectors;
    half their sum is the divergence that noise alone causes, in nats.

    Returns
    -------
    (ndarray, ndarray)
        Variances (n_directions,), and the map from a step to these units (n_directions, n_params).
    """
    axes = spectrum(observation.metric, free).directions
    variances = np.einsum("ki,ij,kj->k", axes, observation.noise, axes)
    return variances / max(observation.n_batches, 1), axes @ observation.metric


def pool(history, present, free):
    """Local observations near enough to the present one to be linear, itself included.

    Near means that along no direction the features move by more than POOL_REACH of their own
    deviation, or than the noise of two iterations explains, and that the states had like shares
    of the samples.
    """
    variances, whiten = noise_of_directions(present, free)
    shares = present.batch_lengths / present.batch_lengths.mean()
    reach = np.maximum(POOL_REACH, POOL_NOISE * np.sqrt(2.0 * variances))
    near = []
    for other in history:
        step = whiten @ (other.parameters - present.parameters)
        alike = np.allclose(other.batch_lengths / other.batch_lengths.mean(), shares, rtol=0.5)
        if other.stage == "local" and alike and np.all(np.abs(step) <= reach):
            near.append(other)
    return [*near, present]


def convergence(present, near, free, blocks, confidence):
    """Test, for all parameters and per block, that the gradient vanishes.

    The covariance is that of batches of model samples, pooled over the iterations ``near``; the
    reference does not enter, because the parameters are fitted to these very frames. The test
    looks at as many directions (the stiffest first) as the batches resolve.

    Returns
    -------
    dict
        Per block: rank, n_batches, chi2_per_dof, threshold; the last two are missing, and with
        them a verdict, where the batches are too few.
    """
    dof = sum(o.n_batches - 1 for o in near)
    batch = sum((o.n_batches - 1) * o.batch_lengths.mean() * o.noise for o in near)
    batch = batch / (max(dof, 1) * present.batch_lengths.mean())
    results = {}
    for name, part in blocks.items():
        chosen = np.zeros_like(free)
        chosen[part] = free[part]
        if not chosen.any():
            continue
        axes = spectrum(present.metric, chosen).directions
        rank = min(len(axes), dof // FRAMES_PER_DIRECTION)
        results[name] = {"rank": rank, "n_batches": dof}
        if rank >= min(len(axes), LEAST_RANK):
            stiffest = axes[:rank]
            mean, noise = stiffest @ present.gradient, stiffest @ batch @ stiffest.T
            value, threshold = statistics.hotelling(mean, noise, present.n_batches, dof, confidence)
            results[name].update(chi2_per_dof=float(value), threshold=float(threshold))
    return results


def allocate(noise):
    """Shares of a fixed amount of sampling that minimise the noise of the parameters.

    Parameters
    ----------
    noise : sequence of float
        Per state: noise in the parameters from one sample of it.

    Returns
    -------
    ndarray, shape (n_states,)
        Relative to the mean share, between LEAST_SHARE and MOST_SHARE.

    References
    ----------
    Neyman, J. R. Stat. Soc. 97, 558 (1934): proportional to the standard deviation.
    """
    shares = np.sqrt(np.maximum(noise, 0.0))
    if not shares.any():
        return np.ones(len(shares))
    bounded = np.clip(shares / shares.mean(), LEAST_SHARE, MOST_SHARE)
    return bounded / bounded.mean()
