"""The model card says what its reader needs, and nothing that the model does not know."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from remcg.basis import BondBasis, SplineBasis
from remcg.model import BondTerm, Model, PairTerm, VolumeTerm
from remcg.model_card import card

N_BASIS = 10
SIGMA = 0.1  # kJ/mol, of each parameter
FOLDERS = ("lammps", "openmm", "hoomd", "tables")


def states(pressure=1.0):
    uses = {280.0: "train", 300.0: "test", 320.0: "train"}
    return [
        SimpleNamespace(id=f"T{t:g}", use=use, temperature=t, pressure=pressure)
        for t, use in uses.items()
    ]


def make_model(volume=True, bond=False, **extra):
    terms = [PairTerm(("W", "W"), SplineBasis(0.25, 0.9, N_BASIS), 2)]
    if bond:
        terms.append(BondTerm(("W", "W"), BondBasis(0.2, 0.3, 8), 1))
    if volume:
        terms.append(VolumeTerm(2, 2))
    blocks = tuple(np.ones((term.n_orders, term.n_basis)) for term in terms)
    model = Model(
        ("W",), tuple(terms), 300.0, 0.03, blocks, {"status": "converged", "iterations": 6}
    )
    covariance = SIGMA**2 * np.eye(model.n_params)
    extra = {"status": "converged", "iterations": 6, "covariance": covariance, **extra}
    return model.with_parameters(model.parameters, **extra)


def cells(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def text():
    return card("water", make_model(), states(), 0.004, FOLDERS)


def test_the_range_is_that_of_the_training_states_alone():
    wide = [*states(), SimpleNamespace(id="T400", use="test", temperature=400.0, pressure=1.0)]
    text = card("water", make_model(), wide, 0.004, FOLDERS)
    assert "trained from 280 to 320 K" in text
    assert "trained at 1 bar alone" in text
    assert cells(text, "T400") == ["T400", "test", "400", "1"]


def test_the_number_of_parameters_is_that_of_the_model(text):
    assert f"{2 * N_BASIS + 2 * 2} parameters" in text
    assert cells(text, "pair W-W")[1:3] == ["10", "linear"]


def test_the_error_of_a_potential_is_that_of_its_covariance(text):
    """With equal errors of all A and B, Var U = sigma^2 (1 + tau^2) sum_k B_k(r)^2."""
    basis = make_model().terms[0].basis
    r = np.linspace(basis.low, basis.high, 20_000)[2000:]
    tau = 20.0 / 300.0
    expected = SIGMA * np.sqrt((1.0 + tau**2) * (basis.values(r) ** 2).sum(axis=1))
    for cell in cells(text, "pair W-W")[3:]:
        middle, largest = map(float, cell.split(", "))
        assert middle == pytest.approx(np.median(expected), rel=0.05)
        assert largest == pytest.approx(expected.max(), rel=0.05)


def test_the_error_of_the_volume_term_vanishes_at_its_centre_and_grows_linearly(text):
    """Per molecule psi_1 (v/v0 - 1) + psi_2 (v/v0 - 1)^2, at most at v/v0 = 1.05."""
    tau = 20.0 / 300.0
    x = 0.05
    largest = SIGMA * np.sqrt((1.0 + tau**2) * (x**2 + x**4))
    for cell in cells(text, "volume")[3:]:
        assert float(cell.split(", ")[1]) == pytest.approx(largest, rel=0.02)


def test_a_model_that_did_not_converge_says_so_twice():
    text = card("water", make_model(status="exhausted"), states(), 0.004, FOLDERS)
    assert "NOT converged** within 6 iterations" in text
    assert "It is not converged" in text
    assert "NOT converged" not in card("water", make_model(), states(), 0.004, FOLDERS)


def test_warnings_of_the_model_are_repeated():
    text = card("water", make_model(warnings=["too few frames"]), states(), 0.004, FOLDERS)
    assert "> too few frames" in text


def test_interfaces_are_warned_of_where_there_is_a_volume_term_and_only_there(text):
    assert "Bulk only" in text and "Constant volume" not in text
    without = card("water", make_model(volume=False), states(None), 0.004, FOLDERS)
    assert "Bulk only" not in without and "Constant volume" in without
    assert "v₀" not in without
    assert "only the volumes of the training states" in without


def test_dynamics_and_energies_are_warned_of_always(text):
    assert "Dynamics is too fast" in text and "energies are not energies" in text


def test_programs_are_named_as_far_as_their_files_were_written(text):
    assert "lmp -in in.remcg -var state T280" in text
    assert "run_openmm.py --state T280" in text
    assert "GROMACS" not in text
    bonded = card("chain", make_model(bond=True), states(), 0.004, (*FOLDERS, "gromacs"))
    assert "bonded tables alone" in bonded
    assert cells(bonded, "bond W-W")[1:3] == ["8", "constant"]


def test_without_a_covariance_errors_are_unknown_and_not_invented():
    model = make_model()
    text = card("water", model.with_parameters(model.parameters), states(), 0.004, FOLDERS)
    assert cells(text, "pair W-W")[3:] == ["unknown", "unknown"]


def test_nothing_is_left_open_in_the_text(text):
    assert not re.search(r"[{}]|nan|None", text)
