"""Whether two models are the same, to the last bit or within error bars."""

from pathlib import Path

import numpy as np
from scipy import stats

from remcg.errors import InputError
from remcg.model import Model

ALARM = 1e-4  # probability that equal models are called different
RANK = 1e-10  # eigenvalues of a covariance below this fraction of the largest are not directions


def compare(first, second):
    """Compare two ``model.json``.

    Returns
    -------
    agrees : bool
        Identical, or within error bars.
    text : str
        Which of the two holds.
    """
    models = [_read_model(path) for path in (first, second)]
    if Path(first).read_bytes() == Path(second).read_bytes():
        return True, "identical to the last bit"
    a, b = models
    _check_same_kind(a, b)
    difference = a.parameters - b.parameters
    if not difference.any() and a.v0 == b.v0:
        return True, "parameters identical to the last bit; the files differ in what they record"
    largest = f"largest difference of a parameter {np.abs(difference).max():.3g} kJ/mol"
    covariances = [model.extra.get("covariance") for model in models]
    if any(matrix is None for matrix in covariances):
        return False, f"not identical; {largest}; without covariances no error bars to compare with"
    p_value, chi2, rank = _distance(difference, *map(np.asarray, covariances))
    verdict = "agree within error bars" if p_value > ALARM else "differ by more than error bars"
    numbers = f"chi2 {chi2:.1f} in {rank} directions, p = {p_value:.2g}"
    return p_value > ALARM, f"not identical; the models {verdict}: {numbers}; {largest}"


def _read_model(path):
    try:
        return Model.read(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a model.json") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a model.json of remcg; give one") from error


def _check_same_kind(a, b):
    kinds = [(m.site_types, m.terms, m.reference_temperature) for m in (a, b)]
    for name, x, y in zip(("site types", "terms", "reference temperatures"), *kinds):
        if x != y:
            raise InputError(
                f"the models have different {name} ({x} and {y}), so their parameters cannot be "
                "compared; compare their summary.json instead"
            )


def _distance(difference, first, second):
    """Chi-square of a difference against both covariances, in the directions that have an error.

    A difference in a direction without one counts as infinite.
    """
    values, vectors = np.linalg.eigh(first + second)
    known = values > RANK * values.max()
    along = vectors.T @ difference
    if np.abs(along[~known]).max(initial=0.0) > 1e-6 * np.abs(difference).max():
        return 0.0, np.inf, int(known.sum())
    chi2 = float((along[known] ** 2 / values[known]).sum())
    return float(stats.chi2.sf(chi2, known.sum())), chi2, int(known.sum())
