"""The model card: what a model is, where it holds, how sure it is, how to run it."""

import numpy as np

from remcg.identify import labelled
from remcg.io import write_text
from remcg.model import TEMPERATURE_ORDERS
from remcg.uncertainty import potential_bands

WELL_KNOWN = 0.9  # share of a term's range, from its far end, in which errors are summed up

CARD = """\
# Model card: {campaign}

Sites {sites}; {terms} with {n_params} parameters, T₀ = {t0:g} K{centre}. Everything is in
`model.json`: terms, knots, coefficients with their covariance, units, hashes of the inputs.

**{status}
{warnings}
## Where it holds

| state | use | T (K) | P (bar) |
|---|---|---|---|
{states}

- **Temperature**: trained from {coldest:g} to {hottest:g} K. Between, θ(T) interpolates; outside,
  it extrapolates a polynomial in T, which no state has tested.
- **Pressure**: {pressures}
- **Composition**: {composition}; another mixture or other molecules are another model unless they
  were trained on.
- **Cut-off** {cutoffs} is part of the model: pressure and compressibility change with it.

How well it does at each state, with error bars: `../report.html`, `../summary.json`,
`../verdict.tsv`.

## How sure it is

One standard error of U from the covariance in `model.json`, which holds the noise of reference
and CG samples; the middle and the largest over the range of each term{omitted}, in kJ/mol.

| term | functions | in T | {columns} |
|---|---|---|{rules}|
{errors}

Errors of neighbouring points are correlated, so a curve is surer than its band; the pressure is
less sure than the potentials, as what hardly moves g(r) moves it.

## How to run it

| program | from `../export/` | volume term |
|---|---|---|
{programs}

`tables/` has U(r) and F(r) as text for anything else. Each folder has a README. U depends on T:
take the files of the temperature you simulate, and export again (a state in the config) for
another one. Time step {timestep:g} ps, the one it was trained with.

## Before you use it

{cautions}
"""

PROGRAMS = (  # name, folder, how, volume term
    (
        "LAMMPS",
        "lammps",
        "`lammps/`: `lmp -in in.remcg -var state {first}`",
        "in the pressure that the barostat is set to",
    ),
    (
        "OpenMM",
        "openmm",
        "`openmm/`: `python run_openmm.py --state {first}`",
        "a force (`CustomVolumeForce`)",
    ),
    (
        "HOOMD-blue",
        "hoomd",
        "`hoomd/`: `python run_hoomd.py --state {first}` (not tested)",
        "only where ψ₂ = 0; else run at constant volume",
    ),
    (
        "GROMACS",
        "gromacs",
        "`gromacs/`: bonded tables alone, `gmx mdrun -tableb`",
        "none; no pair tables since version 2020",
    ),
)

DYNAMICS = """\
- **Dynamics is too fast.** Conservative dynamics lacks the friction and the memory of the atoms
  that are gone. Use the model for equilibrium; times, diffusion and rates are not those of the
  reference, and the factor changes with the state."""
ENERGIES = """\
- **Its energies are not energies.** U(R; T) is a free energy that was matched to structure. Its
  mean, its fluctuation (heat capacity) and energies of cohesion or vaporisation are not those of
  the reference."""
VOLUME = """\
- **Bulk only.** The volume term is an energy of the box: with an interface, a droplet, a slab,
  vacuum or two phases it means nothing. A plain barostat without it gives another density. It
  counts molecules: export again for a box with another number of them."""
NO_VOLUME = """\
- **Constant volume.** There is no volume term: at constant pressure the density is not that of the
  reference."""
UNCONVERGED = """\
- **It is not converged.** More iterations (`rem.max_iterations`) or more sampling would change it
  beyond its error bars."""


def card(campaign, model, states, timestep, programs):
    """Text of ``model/README.md``.

    Parameters
    ----------
    campaign : str
    model : Model
        With status, iterations, covariance and warnings in ``extra``.
    states : sequence with attributes id, use, temperature (K), pressure (bar or None)
    timestep : float
        ps, of the sampling.
    programs : collection of str
        Folders of ``export/`` that were written.
    """
    training = [state for state in states if state.use == "train"]
    temperatures = sorted({state.temperature for state in training})
    first = states[0].id
    return CARD.format(
        campaign=campaign,
        terms=_terms(model),
        sites=", ".join(model.site_types),
        n_params=model.n_params,
        t0=model.reference_temperature,
        centre=f", v₀ = {model.v0:.6g} nm³ per molecule" if model.volume_term else "",
        status=_status(model),
        warnings="".join(f"\n> {text}\n" for text in model.extra.get("warnings", [])),
        states="\n".join(_state_row(state) for state in states),
        coldest=temperatures[0],
        hottest=temperatures[-1],
        pressures=_pressures(training),
        composition=", ".join(model.site_types) + " in the proportions of the training states",
        cutoffs=_cutoffs(model),
        omitted=_omitted(model),
        columns=" | ".join(f"{temperature:g} K" for temperature in temperatures),
        rules="|".join("---" for _ in temperatures),
        errors="\n".join(_error_rows(model, temperatures)),
        programs="\n".join(
            f"| {name} | {how.format(first=first)} | {volume if model.volume_term else 'none'} |"
            for name, folder, how, volume in PROGRAMS
            if folder in programs
        ),
        timestep=timestep,
        cautions="\n".join(_cautions(model)),
    )


def write_card(path, *arguments):
    """Write :func:`card`."""
    write_text(path, card(*arguments))


def _terms(model):
    counts = {}
    for term in model.terms:
        counts[term.kind] = counts.get(term.kind, 0) + 1
    spoken = [f"{n} {kind} term{'s' if n > 1 else ''}" for kind, n in counts.items()]
    return " and ".join([", ".join(spoken[:-1]), spoken[-1]] if len(spoken) > 1 else spoken)


def _status(model):
    iterations = model.extra.get("iterations", 0)
    if model.extra.get("status") == "direct":
        return (
            "Not iterated**: made in one step, it is no minimum of the relative entropy and has no "
            "error bars."
        )
    if model.extra.get("status") == "converged":
        return (
            f"Converged** after {iterations} iterations: the gradient of the relative entropy "
            "cannot be told from its noise."
        )
    return f"NOT converged** within {iterations} iterations: it is a draft."


def _state_row(state):
    pressure = "constant volume" if state.pressure is None else f"{state.pressure:g}"
    return f"| {state.id} | {state.use} | {state.temperature:g} | {pressure} |"


def _pressures(training):
    found = sorted({state.pressure for state in training if state.pressure is not None})
    if not found:
        return "none was trained on; only the volumes of the training states."
    if len(found) == 1:
        return f"trained at {found[0]:g} bar alone; how ψ₁ and ψ₂ carry over to others is untested."
    return f"trained from {found[0]:g} to {found[-1]:g} bar."


def _cutoffs(model):
    found = sorted({term.basis.r_cut for term in model.pair_terms})
    return " and ".join(f"{r_cut:g} nm" for r_cut in found) or "(none)"


def _omitted(model):
    pairs = " (of pairs the outer 90 %, without the core)" if model.pair_terms else ""
    return pairs + (", of the volume term from 0.95 to 1.05 v₀" if model.volume_term else "")


def _error_rows(model, temperatures):
    """One line per term: median and largest standard error at each training temperature."""
    covariance = model.extra.get("covariance")
    bands = [potential_bands(model, covariance, temperature) for temperature in temperatures]
    orders = {order: name for name, order in TEMPERATURE_ORDERS.items()}
    for label, term in labelled(model):
        cells = [_errors(term, band[label]) for band in bands]
        name = label if label.startswith(term.kind) else f"{term.kind} {label}"
        order = orders.get(term.n_orders, term.n_orders)
        yield f"| {name} | {term.n_basis} | {order} | {' | '.join(cells)} |"


def _errors(term, band):
    if "se" not in band:
        return "unknown"
    errors = band["se"]
    if term.kind == "pair":
        errors = errors[round((1.0 - WELL_KNOWN) * len(errors)) :]
    return f"{np.median(errors):.2g}, {errors.max():.2g}"


def _cautions(model):
    yield DYNAMICS
    yield ENERGIES
    if model.volume_term:
        yield VOLUME
    else:
        yield NO_VOLUME
    if model.extra.get("status") not in ("converged", "direct"):
        yield UNCONVERGED
