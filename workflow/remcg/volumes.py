"""The volume term of a model and the volumes that it gives: pressures, limits of steps, phases."""

from remcg.units import beta

PHASE_CHANGE = 0.1  # relative deviation of the volume that is a change of phase


def virial_pressure_matched(model, data, sampled):
    """psi_1(T) such that virial pressure and volume term together give the set pressure.

    The virial pressure was measured with the model ``sampled``; its change with the step is that
    of linear response, because directions that hardly change the structure change it by a lot.
    """
    states = [d for d in data if d.pressure is not None]
    if model.volume_term is None or not states:
        return model
    missing = []
    for d in states:
        step = model.theta(d.temperature) - sampled.theta(d.temperature)
        response = d.pressure_slopes - beta(d.temperature) * _pressure_covariance(d)
        missing.append(d.pressure - _pressure(model, d) - response @ step)
    return model.with_added_pressure([d.temperature for d in states], missing)


def step_limit(model, data, delta):
    """Factor <= 1 that keeps a step near what the volumes were sampled at.

    Every mean volume moves by at most one standard deviation, and no state loses more than half
    of its stiffness kT/Var(V): below zero there is no liquid.
    """
    factor = 1.0
    change = model.with_parameters(delta)
    for d in data:
        volume = d.volume.ravel()
        deviation, sigma = volume - volume.mean(), volume.std()
        if sigma > 1e-9 * volume.mean():
            phi = d.phi.reshape(len(volume), -1)
            response = deviation @ phi / len(volume)
            shift = -beta(d.temperature) * response @ change.theta(d.temperature)
            curvature = 2.0 * change.psi(d.temperature)[1] / (d.n_molecules * model.v0**2)
            allowed = 0.5 / (beta(d.temperature) * sigma**2)
            excess = max(abs(shift) / sigma, -curvature / allowed, 1.0)
            factor = min(factor, 1.0 / excess)
    return factor


def have_left(data):
    """Whether the mean volume of any state is off by more than a phase change would be."""
    return any(abs(d.volume.mean() / d.reference_volume.mean() - 1.0) > PHASE_CHANGE for d in data)


def parameters_of(model):
    """Slice of the volume term's parameters among all; empty without one."""
    for term, part in zip(model.terms, model.parameter_slices):
        if term.kind == "volume":
            return part
    return slice(0, 0)


def _pressure_covariance(state):
    """Covariance of the virial pressure with every basis sum, shape (n_phi,)."""
    phi = state.phi.reshape(-1, state.phi.shape[-1])
    pressure = state.pressure_samples.ravel()
    return (pressure - pressure.mean()) @ (phi - phi.mean(axis=0)) / len(phi)


def _pressure(model, state):
    """Mean pressure of a state's samples with the volume term, kJ/mol/nm^3."""
    added = model.volume_pressure(state.volume.mean(), state.n_molecules, state.temperature)
    return state.pressure_samples.mean() + added
