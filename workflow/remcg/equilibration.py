"""Where a run is in equilibrium: detected in its samples and cut, never assumed."""

import numpy as np

N_STARTS = 20  # evenly spaced in the first three quarters: where equilibrium may begin
PER_SAMPLE = ("site_sums", "volume", "energy", "pressure", "pressure_tensor", "temperature")
LEAST_INDEPENDENT = 5  # samples of a replica, below which equilibrium cannot be told
TOLERANCE = 0.05  # of the independent samples may be lost rather than samples cut for noise
SIGNIFICANT = 3.0  # standard errors between what is cut and the rest; less is noise


def inefficiency(series):
    """Statistical inefficiency of one series, >= 1, in samples.

    1 + 2 sum over t of (1 - t/n) C(t), up to where the autocorrelation C first crosses zero
    (Chodera et al., J. Chem. Theory Comput. 3, 26 (2007)).
    """
    n = len(series)
    deviation = series - series.mean()
    if deviation.std() <= 1e-12 * (1.0 + abs(series.mean())):
        return 1.0
    spectrum = np.fft.rfft(deviation, 2 * n)
    correlation = np.fft.irfft(spectrum * spectrum.conj())[:n] / np.arange(n, 0, -1)
    correlation /= correlation[0]
    negative = np.flatnonzero(correlation <= 0.0)
    last = negative[0] if len(negative) else n
    t = np.arange(1, last)
    return max(1.0, 1.0 + 2.0 * np.sum((1.0 - t / n) * correlation[1:last]))


def first_equilibrated(series):
    """First sample of the equilibrated part of one series.

    The earliest of :data:`N_STARTS` starts t0 for which the number of independent samples
    (n - t0)/g(t0) is within :data:`TOLERANCE` of its maximum (Chodera, J. Chem. Theory Comput. 12,
    1799 (2016)); the first of all where the mean before t0 does not differ significantly from that
    after it, because the maximum of a noisy number is found anywhere in a stationary series.

    Parameters
    ----------
    series : ndarray, shape (n_samples,)

    Returns
    -------
    int, float
        The sample, and the number of independent ones from there on.
    """
    n = len(series)
    starts = np.unique(np.arange(N_STARTS) * 3 * n // (4 * N_STARTS))
    independent = np.array([(n - start) / inefficiency(series[start:]) for start in starts])
    chosen = np.argmax(independent >= (1.0 - TOLERANCE) * independent.max())
    start = starts[chosen]
    if start and _deviation(series, start, (n - start) / independent[chosen]) < SIGNIFICANT:
        chosen = 0
    return int(starts[chosen]), float(independent[chosen])


def _deviation(series, start, inefficiency):
    """Difference of the means before and after ``start`` in standard errors of noise alone."""
    before, after = series[:start], series[start:]
    variance = after.var() * inefficiency * (1.0 / len(before) + 1.0 / len(after))
    return abs(before.mean() - after.mean()) / max(np.sqrt(variance), 1e-300)


def cut(results, log=print):
    """Leave out what any replica sampled before all of them were in equilibrium.

    Equilibrium is looked for in the energy and, where it varies, the volume; whole blocks of the
    RDF are cut.

    Parameters
    ----------
    results : list of dict
        As :meth:`remcg.engine.replica.Replica.result` returns them; all of one length.

    Returns
    -------
    list of dict, int
        The rest of the results, and the number of samples that each lost.
    """
    n_samples, n_blocks = len(results[0]["volume"]), len(results[0]["rdf_blocks"])
    found = [
        first_equilibrated(result[name]) for result in results for name in ("energy", "volume")
    ]
    start, independent = max(found)[0], min(found, key=lambda pair: pair[1])[1]
    block = np.arange(n_samples) * n_blocks // n_samples
    first_block = -(-start * n_blocks // n_samples)
    start = int(np.searchsorted(block, first_block))
    if 2 * start > n_samples or independent < LEAST_INDEPENDENT <= n_samples:
        log(
            f"warning: hardly in equilibrium: {start} of {n_samples} samples are left out, the rest"
            f" of a replica holds about {independent:.0f} independent ones; lengthen"
            " sample.equilibration and sample.steps"
        )
    return [_rest(result, start, first_block, n_samples) for result in results], start


def _rest(result, start, first_block, n_samples):
    rest = dict(result)
    for name in PER_SAMPLE:
        rest[name] = result[name][start:]
    rest["rdf_blocks"] = result["rdf_blocks"][first_block:]
    n_kept = len(result["trajectory"])
    taken_at = (np.arange(n_kept) + 1) * n_samples // max(n_kept, 1) - 1
    first_kept = int(np.searchsorted(taken_at, start))
    for name in ("trajectory", "trajectory_box"):
        rest[name] = result[name][first_kept:]
    return rest
