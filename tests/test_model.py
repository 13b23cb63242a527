import json

import numpy as np
import pytest

from remcg.basis import SplineBasis
from remcg.model import Model, PairTerm, VolumeTerm


@pytest.fixture
def model():
    rng = np.random.default_rng(2)
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.3, 0.9, 8), 2),
        PairTerm(("A", "B"), SplineBasis(0.3, 1.0, 9), 1),
        VolumeTerm(2, 3),
    )
    blocks = tuple(rng.normal(size=(t.n_orders, t.n_basis)) for t in terms)
    return Model(("A", "B"), terms, 300.0, 0.03, blocks, {"iterations": 3})


def test_theta_is_a_minus_tau_b_plus_tau_squared_c(model):
    tau = (330.0 - 300.0) / 300.0
    a, b, c = model.coefficients[2]
    np.testing.assert_allclose(model.term_theta(330.0)[2], a - tau * b + tau**2 * c)
    np.testing.assert_allclose(model.term_theta(330.0)[1], model.coefficients[1][0])


def test_a_model_read_from_its_file_is_the_same_to_the_last_bit(model, tmp_path):
    model.write(tmp_path / "model.json")
    again = Model.read(tmp_path / "model.json")
    assert np.array_equal(again.parameters, model.parameters)
    assert again.terms == model.terms and again.extra == {"iterations": 3}
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "model.json").read_text()


def test_a_model_file_names_no_host_path_or_time(model, tmp_path):
    model.write(tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())
    assert set(content) == {
        "format",
        "units",
        "site_types",
        "reference_temperature",
        "v0",
        "terms",
        "iterations",
    }


def test_the_volume_pressure_is_minus_the_derivative_of_the_volume_energy(model):
    def energy(volume):
        term = model.terms[2]
        return term.basis_sums(volume, 100, model.v0) @ model.psi(310.0)

    h = 1e-5
    slope = (energy(3.1 + h) - energy(3.1 - h)) / (2 * h)
    assert model.volume_pressure(3.1, 100, 310.0) == pytest.approx(-slope, rel=1e-7)


def test_an_added_pressure_appears_in_the_volume_pressure(model):
    temperatures, added = [280.0, 310.0, 340.0], [5.0, 7.0, 8.0]
    after = model.with_added_pressure(temperatures, added)
    for temperature, pressure in zip(temperatures, added):
        change = after.volume_pressure(3.0, 100, temperature) - model.volume_pressure(
            3.0, 100, temperature
        )
        assert change == pytest.approx(pressure, rel=1e-9)


def test_published_volume_coefficients_give_the_published_pressure_and_modulus():
    bar, n, v = 0.0602214076, 1602, 113.610979
    psi = np.array([101.3487, 14.0243]) * bar
    model = Model(("A",), (VolumeTerm(2, 1),), 300.0, v / n, (psi[None],))
    pressure = model.volume_pressure(v, n, 300.0)
    h = 1e-3
    modulus = -v * (model.volume_pressure(v + h, n, 300.0) - pressure) / h
    assert pressure / bar == pytest.approx(-1429.09, abs=0.01)
    assert modulus / bar == pytest.approx(395.51, rel=1e-3)
