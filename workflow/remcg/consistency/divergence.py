r"""How far two estimated curves or distributions are apart, and how far noise alone would set them.

Both sides come as blocks of consecutive frames, of shape (n_blocks, n_bins), which count as
independent; the two sides may have different numbers of blocks.
"""

import numpy as np

from remcg.distributions import jensen_shannon, noise_floor
from remcg.statistics import block_mean

LN2 = np.log(2.0)
N_DRAWS = 200  # of a bootstrap
RESOLVED = 0.5  # largest relative error of a bin's pooled content


def kullback_leibler(p, q):
    r"""Divergence :math:`\sum p \log_2(p/q)` of two histograms of equal bins, of any norm, in bits.

    Infinite where q is empty and p is not: :func:`joined` bins first.
    """
    p, q = p / p.sum(), q / q.sum()
    some = p > 0
    with np.errstate(divide="ignore"):
        return float((p[some] * np.log2(p[some] / q[some])).sum())


def curvatures(measure, p, q):
    """Second derivatives of a divergence with the content of each bin, of p and of q, bits.

    Both divergences are sums over bins, so that there are no mixed ones within a side.
    """
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure is jensen_shannon:
            rows = 0.5 / p - 0.5 / (p + q), 0.5 / q - 0.5 / (p + q)
        else:
            rows = 1.0 / p, p / q**2
    return [np.where(np.isfinite(row), row, 0.0) / LN2 for row in rows]


def bias(measure, reference, model):
    r"""Bias of the plug-in estimate of a divergence, from the scatter of blocks, bits.

    .. math:: \tfrac12 \sum_i \left[\partial^2_{p_i} D\,\mathrm{Var}(\hat p_i)
              + \partial^2_{q_i} D\,\mathrm{Var}(\hat q_i)\right]

    With n and m independent values and equal distributions over K bins this is (K - 1)(1/n + 1/m)/8
    nats for the Jensen-Shannon and (K - 1)(1/n + 1/m)/2 for the Kullback-Leibler divergence; the
    block variances make it hold for correlated values, too. Zero with a single block.

    References
    ----------
    Grassberger, Phys. Lett. A 128, 369 (1988), on the bias of entropies.
    """
    sides = [blocks / blocks.sum(axis=1, keepdims=True) for blocks in (reference, model)]
    second = curvatures(measure, *(side.mean(axis=0) for side in sides))
    return float(0.5 * sum(c @ _variance_of_mean(side) for c, side in zip(second, sides)))


def joined(reference, model, both=False):
    """Blocks of both sides with neighbouring bins joined until their content is known.

    A bin's pooled content is to have a relative error below RESOLVED; with ``both`` each side is to
    have content, too. Joining can only lower a divergence.

    Returns
    -------
    (ndarray, ndarray)
        Of shape (n_blocks, n_joined).
    """
    sides = [blocks / blocks.sum(axis=1, keepdims=True) for blocks in (reference, model)]
    means = [side.mean(axis=0) for side in sides]
    variance = sum(_variance_of_mean(side) for side in sides)
    starts, content, spread, own = [0], 0.0, 0.0, np.zeros(2)
    for i in range(reference.shape[1]):
        content, spread = content + means[0][i] + means[1][i], spread + variance[i]
        own += means[0][i], means[1][i]
        known = content > 0.0 and np.sqrt(spread) <= RESOLVED * content
        if known and (not both or own.min() > 0.0):
            starts.append(i + 1)
            content, spread, own = 0.0, 0.0, np.zeros(2)
    starts = starts[:-1] or [0]  # what is left over goes to the last
    return tuple(np.add.reduceat(blocks, starts, axis=1) for blocks in (reference, model))


def bootstrap_error(measure, reference, model, rng, n_draws=N_DRAWS):
    """Standard error of measure(mean reference, mean model) by resampling the blocks of both."""
    sides = reference, model
    drawn = [
        measure(*(side[rng.integers(len(side), size=len(side))].mean(axis=0) for side in sides))
        for _ in range(n_draws)
    ]
    n = min(len(reference), len(model))
    return float(np.std(drawn, ddof=1) * np.sqrt(n / (n - 1.0))) if n > 1 else 0.0


def compare_distributions(reference, model, rng):
    """Both divergences of two distributions, each with its bias, error and noise floor.

    Parameters
    ----------
    reference, model : ndarray, shape (n_blocks, n_bins)
        Histograms of equal bins, of any norm.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        js_bits, kl_bits (of the model from the reference): less the bias; their ``_se``; their
        ``_bias``; ``noise_floor_js_bits``, ``noise_floor_kl_bits``: plug-in values of the halves
        of the reference; rmse, max of the normalised contents relative to the largest of the
        reference's; kl_bits is left out where fewer than three bins have content on both sides.
    """
    found = {}
    p, q = (side / side.sum(axis=1, keepdims=True) for side in (reference, model))
    top = p.mean(axis=0).max()
    difference = (q.mean(axis=0) - p.mean(axis=0)) / top
    found |= {"rmse": _rms(difference), "max": float(np.abs(difference).max())}
    for name, measure in (("js", jensen_shannon), ("kl", kullback_leibler)):
        a, b = joined(p, q, both=name == "kl")
        if name == "kl" and a.shape[1] < 3:
            continue
        excess = bias(measure, a, b)
        found |= {
            f"{name}_bits": measure(a.mean(axis=0), b.mean(axis=0)) - excess,
            f"{name}_bits_se": bootstrap_error(_finite(measure), a, b, rng),
            f"{name}_bits_bias": excess,
            f"noise_floor_{name}_bits": noise_floor(a, _finite(measure)) if len(a) > 1 else 0.0,
        }
    return found


def beside_plug_in(reference, model, seed=0):
    """What :func:`compare_distributions` adds to a plug-in divergence of the same histograms.

    Parameters
    ----------
    reference, model : ndarray, shape (n_blocks, n_bins)
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        excess_js_bits: the divergence less its bias, beside the ``js_bits`` of a plug-in estimate;
        all else of :func:`compare_distributions`. Empty where a block has no content.
    """
    if not all(side.sum(axis=1).min() > 0.0 for side in (reference, model)):
        return {}
    found = compare_distributions(reference, model, np.random.default_rng(seed))
    found["excess_js_bits"] = found.pop("js_bits")
    return found


def compare_curves(reference, model, rng):
    """Deviation of two curves: rmse and max with errors, and what noise alone would show.

    Parameters
    ----------
    reference, model : ndarray, shape (n_blocks, n_points)
    rng : numpy.random.Generator

    Returns
    -------
    dict
        rmse, rmse_se, max, max_se (block bootstrap); noise_floor_rmse: what a perfect model would
        show; excess_rmse: the root of rmse^2 less that floor's square, or 0; split_half_rmse: of
        the halves of the reference.
    """
    (p, p_se), (q, q_se) = block_mean(reference), block_mean(model)
    rmse, floor = _rms(q - p), _rms(np.hypot(p_se, q_se))
    return {
        "rmse": rmse,
        "rmse_se": bootstrap_error(lambda a, b: _rms(b - a), reference, model, rng),
        "max": float(np.abs(q - p).max()),
        "max_se": bootstrap_error(lambda a, b: np.abs(b - a).max(), reference, model, rng),
        "noise_floor_rmse": floor,
        "excess_rmse": float(np.sqrt(max(rmse**2 - floor**2, 0.0))),
        "split_half_rmse": noise_floor(reference, lambda a, b: _rms(b - a)),
    }


def _finite(measure):
    """A bin that a resampled side leaves empty adds nothing instead of infinity."""

    def guarded(p, q):
        some = (q > 0.0) | (p == 0.0)
        return measure(p[some], q[some])

    return guarded


def _variance_of_mean(blocks):
    if len(blocks) < 2:
        return np.zeros(blocks.shape[1])
    return blocks.var(axis=0, ddof=1) / len(blocks)


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))
