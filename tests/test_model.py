import json

import numpy as np
import pytest

from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.errors import InputError
from remcg.model import (
    AngleTerm,
    BondTerm,
    DihedralTerm,
    Model,
    PairTerm,
    VolumeTerm,
    canonical,
)


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


@pytest.fixture
def chain_model():
    """Every kind of term, the volume term between the others."""
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.3, 0.9, 8), 2),
        BondTerm(("B", "A"), BondBasis(0.2, 0.3, 6), 2),
        VolumeTerm(2, 1),
        AngleTerm(("A", "B", "A"), AngleBasis(1.0, 5), 1),
        DihedralTerm(("B", "B", "A", "A"), PeriodicBasis(7), 3),
    )
    rng = np.random.default_rng(3)
    blocks = tuple(rng.normal(size=(t.n_orders, t.n_basis)) for t in terms)
    return Model(("A", "B"), terms, 300.0, 0.03, blocks, exclude=("1-2", "1-3"))


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
        "sha256",
    }


def test_bonded_terms_and_exclusions_survive_the_model_file(chain_model, tmp_path):
    chain_model.write(tmp_path / "model.json")
    again = Model.read(tmp_path / "model.json")
    assert again.terms == chain_model.terms
    assert [type(term) for term in again.terms] == [type(term) for term in chain_model.terms]
    assert again.exclude == ("1-2", "1-3") and again.extra == {}
    assert np.array_equal(again.parameters, chain_model.parameters)


def test_a_model_with_other_parameters_excludes_the_same_pairs(chain_model):
    assert chain_model.with_parameters(chain_model.parameters).exclude == ("1-2", "1-3")


def test_a_group_of_sites_reads_the_same_forwards_and_backwards(chain_model):
    bond, angle, dihedral = chain_model.bonded_terms
    assert (bond.name, angle.name, dihedral.name) == ("A-B", "A-B-A", "A-A-B-B")
    assert canonical(["B", "A", "A", "B"]) == ("B", "A", "A", "B")
    assert bond.fits(("A", "B")) and bond.fits(["B", "A"]) and not bond.fits(("A", "A"))
    assert dihedral.fits(("B", "B", "A", "A")) and not dihedral.fits(("A", "B", "A", "B"))


def test_a_bonded_term_with_a_wrong_number_of_sites_is_refused():
    with pytest.raises(InputError, match="the angle term A-B names 2 site types; give 3"):
        AngleTerm(("A", "B"), AngleBasis(1.0, 5), 1)


def test_terms_are_sorted_by_what_they_act_on(chain_model):
    kinds = [term.kind for term in chain_model.site_terms]
    assert kinds == ["pair", "bond", "angle", "dihedral"]
    assert [term.kind for term in chain_model.pair_terms] == ["pair"]
    assert [term.kind for term in chain_model.bonded_terms] == ["bond", "angle", "dihedral"]


def test_basis_sums_take_the_columns_of_site_terms_in_the_order_of_the_model(chain_model):
    sums = np.arange(2 * 26.0).reshape(2, 26)
    volume = np.array([3.0, 3.1])
    found = chain_model.basis_sums(sums, volume, 100)
    np.testing.assert_array_equal(found[:, :14], sums[:, :14])
    expected = chain_model.volume_term.basis_sums(volume, 100, 0.03)
    np.testing.assert_array_equal(found[:, 14:16], expected)
    np.testing.assert_array_equal(found[:, 16:], sums[:, 14:])


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
