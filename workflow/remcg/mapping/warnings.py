"""What looks wrong about a state's reference but does not stop it."""

import numpy as np

from remcg.config import USUAL_SPACING
from remcg.errors import InputError
from remcg.statistics import inefficiency, standard_error
from remcg.trajectory import check_log

DRIFT_SE = 4.0
TEMPERATURE_TOLERANCE = 0.002  # relative; integrators deviate by less
TEMPERATURE_SLIP = 0.1  # relative; more is another unit or another trajectory


def find_warnings(campaign, state, volumes, time, log):
    """What looks wrong about a state but does not stop it.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : remcg.config.State
    volumes, time : ndarray, shape (n_frames,)
        nm^3, ps.
    log : dict
        Columns of the log, or empty.

    Returns
    -------
    list of str
    """
    if len(volumes) < 2:
        raise InputError(
            f"{state.id}: the trajectory has {len(volumes)} frame; at least two are needed, and "
            "hundreds for a model: run it longer"
        )
    warnings = check_log(log, volumes, state.id) if log else []
    series = {"volume (nm³)": volumes}
    if "potential_energy_kJ_mol" in log:
        series["potential energy (kJ/mol)"] = log["potential_energy_kJ_mol"]
    for name, values in series.items():
        warnings += _drift(state, name, values)
    if "temperature_K" in log:
        warnings += check_temperature(state, log["temperature_K"])
    warnings += _ensemble(state, volumes)
    warnings += _times(state, time)
    return warnings + _frames(campaign, state, list(series.values()))


def _varies(values):
    return values.std() > 1e-6 * abs(values.mean())


def _drift(state, name, values):
    """The means of both halves must agree."""
    half = len(values) // 2
    if half < 10 or not _varies(values):
        return []
    (first, se_1), (second, se_2) = (
        standard_error(v[None]) for v in (values[:half], values[half:])
    )
    error = np.hypot(se_1, se_2)
    if abs(second - first) <= DRIFT_SE * error:
        return []
    return [
        f"{state.id}: the {name} drifts: its mean is {first:.6g} in the first half and "
        f"{second:.6g} in "
        f"the second, {abs(second - first) / error:.1f} standard errors apart; equilibrate longer "
        "and cut off the beginning"
    ]


def check_temperature(state, values):
    """Warnings about the temperatures of a log, K; quite another temperature is an error."""
    if len(values) < 10:
        return []
    mean, error = standard_error(values[None])
    if abs(mean - state.temperature) > TEMPERATURE_SLIP * state.temperature:
        raise InputError(
            f"{state.id}: the mean temperature of the log is {mean:.2f} K but the config says "
            f"{state.temperature:g} K; give the temperature of the trajectory in kelvin, or the "
            "trajectory and log of this state"
        )
    allowed = max(DRIFT_SE * error, TEMPERATURE_TOLERANCE * state.temperature)
    if abs(mean - state.temperature) <= allowed:
        return []
    return [
        f"{state.id}: the mean temperature of the log is {mean:.2f} +- {error:.2f} K but the "
        f"config says {state.temperature:g} K; correct the temperature or give the right trajectory"
    ]


def _ensemble(state, volumes):
    if state.pressure is not None and not _varies(volumes):
        return [
            f"{state.id}: has a pressure ({state.pressure:g} bar) but its volume is constant; set "
            "pressure: null for a trajectory at constant volume"
        ]
    if state.pressure is None and _varies(volumes):
        return [
            f"{state.id}: has no pressure (constant volume) but its volume varies; set its "
            "pressure in bar"
        ]
    return []


def _times(state, time):
    repeated = np.flatnonzero(np.diff(time) <= 0)
    if len(repeated) == 0:
        return []
    return [
        f"{state.id}: {len(repeated)} of {len(time)} time stamps do not increase, the first in "
        f"frame {repeated[0] + 1} ({time[repeated[0] + 1]:g} ps); if parts were joined with "
        f"overlap, cut "
        "it out, as frames that count twice make errors look too small"
    ]


def _frames(campaign, state, series):
    """Parameters need more independent frames than there are parameters."""
    if state.use != "train":
        return []
    g = max(inefficiency(values[None, :, None]) for values in series)
    n_eff, n_states = int(len(series[0]) / g), len(campaign.training)
    if n_eff * n_states >= campaign.n_params:
        return []
    return [
        f"{state.id}: about {n_eff} decorrelated frames (of {len(series[0])}); with {n_states} "
        f"training states like it there are fewer than the {spoken_size(campaign)} of the "
        "model; run longer trajectories, or lower n_basis or the order in temperature"
    ]


def spoken_size(campaign):
    """How many parameters the model has, or about how many where some are chosen later."""
    if not campaign.open_terms:
        return f"{campaign.n_params} parameters"
    return f"about {campaign.n_params} parameters (n_basis: auto as one per {USUAL_SPACING:g} nm)"
