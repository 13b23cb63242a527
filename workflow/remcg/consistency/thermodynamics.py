r"""Equation of state of model and reference: thermal expansion, isotherms, free energies.

The energy of a structure-based model is a free energy, which depends on the temperature itself; its
mean, its fluctuations and its correlation with the volume are not those of the reference and are
not compared. Densities, volumes' fluctuations, pressures and free energy differences are.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from remcg.errors import InputError
from remcg.reweight import covariance_of

WINDOW = 0.02  # half-width of the range of ln density in which isotherms are compared
REACH = 0.04  # of ln density, to which one is continued; liquids stiffen by a seventh on the way


class Expansion(NamedTuple):
    """alpha, se (n_states,): 1/K; p_value: probability of so bad a fit, 1 where it is exact."""

    alpha: np.ndarray
    se: np.ndarray
    p_value: float


class PressureDifference(NamedTuple):
    """bar: root mean square over the window, its error, what noise alone would give; mean."""

    rms: float
    se: float
    noise_floor: float
    mean: float
    mean_se: float


def thermal_expansion(temperatures, densities, errors, order=None):
    r"""Thermal expansion along an isobar.

    .. math:: \alpha = -\frac{d \ln\rho}{dT}

    of a polynomial in T fitted to ln(rho), weighted with the errors.

    Parameters
    ----------
    temperatures, densities, errors : ndarray, shape (n_states,)
        K; any unit of density, standard errors in the same.
    order : int, optional
        Of the polynomial; default 2 from four states on, else 1.

    Returns
    -------
    Expansion
        At the same temperatures.
    """
    T, rho, error = (np.asarray(x, float) for x in (temperatures, densities, errors))
    if order is None:
        order = 2 if len(T) > 3 else 1
    if len(np.unique(T)) <= order:
        raise InputError(
            f"{len(np.unique(T))} temperatures for a polynomial of order {order} in T; thermal"
            f" expansion needs at least {order + 1}"
        )
    middle, width = T.mean(), max(np.ptp(T), 1e-9)
    x, relative = (T - middle) / width, np.maximum(error / rho, 1e-12)
    powers = x[:, None] ** np.arange(order + 1)
    scaled = powers / relative[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    coefficients = covariance @ scaled.T @ (np.log(rho) / relative)
    n = np.arange(order + 1)
    slopes = n * x[:, None] ** np.maximum(n - 1, 0) / width
    misfit = np.sum(((np.log(rho) - powers @ coefficients) / relative) ** 2)
    dof = len(T) - order - 1
    return Expansion(
        -slopes @ coefficients,
        np.sqrt(np.einsum("ik,kl,il->i", slopes, covariance, slopes)),
        float(stats.chi2.sf(misfit, dof)) if dof else 1.0,
    )


def isotherm(log_density, at, compressibility, pressure):
    r"""Pressure near a state at constant pressure, from its density and compressibility, bar.

    .. math:: P(\rho) = P_0 + \frac{\ln(\rho/\rho_0)}{\kappa_T}

    Parameters
    ----------
    log_density : ndarray
        ln(rho), rho in any unit.
    at : float
        ln(rho_0) in the same unit.
    compressibility : float
        1/bar.
    pressure : float
        bar.
    """
    return pressure + (np.asarray(log_density) - at) / compressibility


def isotherm_error(log_density, at, at_se, compressibility, compressibility_se):
    """Standard error of :func:`isotherm` to first order, bar; ``at_se`` is that of ln(rho_0)."""
    distance = np.asarray(log_density) - at
    return np.hypot(at_se, distance * compressibility_se / compressibility) / compressibility


def pressure_difference(reference, model, half_width=WINDOW):
    r"""Integrated squared difference of two isotherms of one temperature over a density range.

    .. math:: \left[\frac{1}{x_2 - x_1} \int_{x_1}^{x_2} (P_{model} - P_{ref})^2 dx\right]^{1/2},
              \qquad x = \ln\rho

    around the density of the reference, both isotherms as in :func:`isotherm` at the same P_0.

    Parameters
    ----------
    reference, model : tuple of float
        Density and its standard error in any unit, compressibility and its standard error in
        1/bar.
    half_width : float
        Of the window in ln(rho).

    Returns
    -------
    PressureDifference
        Errors to first order.
    """

    def ends(values):
        rho, kappa, rho_model, kappa_model = values
        x = np.array([-half_width, half_width])
        return (x - np.log(rho_model / rho)) / kappa_model - x / kappa

    def rms(difference):
        a, b = difference
        return np.sqrt((a * a + a * b + b * b) / 3.0)

    values = np.array([reference[0], reference[2], model[0], model[2]])
    errors = np.array([reference[1], reference[3], model[1], model[3]])
    steps = [np.eye(4)[i] * max(errors[i], 1e-9 * values[i]) for i in range(4)]
    slopes = [0.5 * (ends(values + step) - ends(values - step)) for step in steps]
    found = ends(values)
    spread = sum(np.outer(s, s) for s in slopes)
    noise = np.sqrt((spread[0, 0] + spread[0, 1] + spread[1, 1]) / 3.0)
    value = rms(found)
    gradient = np.array([2 * found[0] + found[1], found[0] + 2 * found[1]]) / (6 * max(value, 1e-9))
    error = np.sqrt(gradient @ spread @ gradient)
    half = np.full(2, 0.5)
    return PressureDifference(
        float(value), float(error), float(noise), float(half @ found),
        float(np.sqrt(half @ spread @ half)),
    )  # fmt: skip


def thermal_pressure(expansion, compressibility):
    """(dP/dT)_V = alpha/kappa and its standard error, bar/K; arguments are (value, se)."""
    value = expansion[0] / compressibility[0]
    error = np.hypot(expansion[1], value * compressibility[1]) / compressibility[0]
    return float(value), float(error)


def free_energy_differences(mixture, coefficients, ideal=None):
    r"""Reduced excess free energies of states relative to the first, by MBAR.

    .. math:: f = -\ln \int e^{-\lambda \cdot x}, \qquad f^{ex} = f - f^{ideal}

    Parameters
    ----------
    mixture : remcg.reweight.Mixture
        Samples of the states.
    coefficients : sequence of ndarray
        lambda of every state.
    ideal : sequence of float, optional
        f of the ideal gas at every state, see :func:`ideal_gas`; default none.

    Returns
    -------
    (ndarray, ndarray)
        Differences (n_states,), the first zero; their standard errors.
    """
    found = [mixture.at(c) for c in coefficients]
    values = np.array([r.free_energy for r in found]) - np.asarray(
        np.zeros(len(found)) if ideal is None else ideal, float
    )
    change = np.stack([r.weights - found[0].weights for r in found], axis=1)
    errors = np.sqrt(np.diag(covariance_of(mixture.noise(change))))
    return values - values[0], errors


def ideal_gas(n_molecules, beta_pressure):
    """f of an ideal gas at constant pressure up to a constant: (N + 1) ln(beta P)."""
    return (n_molecules + 1) * np.log(beta_pressure)
