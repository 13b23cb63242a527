"""Bonded potentials of few parameters are what their names say, in the kernels too."""

import numpy as np
import pytest

import naive
from remcg.engine.replica import Start
from remcg.errors import InputError
from remcg.forms import AngleCosines, DihedralCosines, HarmonicBasis
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model
from remcg.topology import Topology
from test_kernels import assert_forces_are_slopes, evaluate

FORMS = {
    HarmonicBasis(0.2, 0.3): (0.0, 1.0),
    AngleCosines(1): (0.0, np.pi),
    AngleCosines(12): (0.0, np.pi),
    DihedralCosines(2): (-np.pi, np.pi),
    DihedralCosines(12): (-np.pi, np.pi),
}
every = pytest.mark.parametrize("basis", FORMS, ids=repr)


def from_pieces(basis, x):
    origin, spacing, functions, index = basis.pieces
    place = (x - origin) / spacing
    m = np.clip(place.astype(int), 0, len(index) - 1)
    values = np.einsum("xjp,xp->xj", functions[m], (place - m)[:, None] ** np.arange(4))
    assert (index[:, : basis.n_basis] == np.arange(basis.n_basis)).all()
    return values[:, : basis.n_basis]


@every
def test_the_table_for_the_kernels_deviates_by_less_than_1e_8(basis):
    x = np.linspace(*FORMS[basis], 30_001)
    assert np.abs(from_pieces(basis, x) - basis.values(x)).max() < 1e-8


@every
def test_slopes_and_curvatures_are_derivatives(basis):
    x, h = np.linspace(*FORMS[basis], 50)[1:-1], 1e-5
    slope = (basis.values(x + h) - basis.values(x - h)) / (2 * h)
    second = (basis.values(x + h, 1) - basis.values(x - h, 1)) / (2 * h)
    np.testing.assert_allclose(basis.values(x, 1), slope, atol=2e-6)
    np.testing.assert_allclose(basis.second(x), second, atol=1e-4, rtol=1e-6)


@every
def test_the_curvature_matrix_is_the_integral_of_products(basis):
    x = np.linspace(basis.low, basis.high, 20_001)
    second = basis.second(x)
    expected = np.trapezoid(second[:, :, None] * second[:, None], x, axis=0)
    np.testing.assert_allclose(basis.curvature(), expected, rtol=1e-5, atol=1e-5)


@every
def test_no_function_is_negative_where_the_coordinate_is_sampled(basis):
    x = np.linspace(basis.low, basis.high, 1001)
    assert basis.values(x).min() >= 0.0


def test_a_harmonic_bond_has_the_stiffness_and_length_of_its_coefficients():
    basis = HarmonicBasis(0.2, 0.3)
    x = np.linspace(0.0, 2.0, 50)
    energy = 0.5 * 4000.0 * (x - 0.26) ** 2
    design = np.column_stack([basis.values(x), np.ones_like(x)])
    c = np.linalg.lstsq(design, energy, rcond=None)[0]
    np.testing.assert_allclose(design @ c, energy, rtol=1e-9, atol=1e-9)
    assert 2.0 * c[1] / 0.1**2 == pytest.approx(4000.0)
    assert 0.2 - 0.1 * c[0] / (2.0 * c[1]) == pytest.approx(0.26)


def test_cosines_of_an_angle_have_no_slope_at_0_and_180_degrees():
    for n_basis in (1, 4):
        slopes = AngleCosines(n_basis).values(np.array([0.0, np.pi]), 1)
        assert np.abs(slopes).max() < 1e-12


def test_every_polynomial_in_the_cosine_is_in_the_span_up_to_a_constant():
    x = np.linspace(0.0, np.pi, 200)
    design = np.column_stack([AngleCosines(3).values(x), np.ones_like(x)])
    target = 3.0 * np.cos(x) ** 3 - np.cos(x) + 2.0
    found = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(found, target, atol=1e-10)


def chain(n_sites=8, seed=0):
    """One chain in a random walk, in a large box, and a model with a term of each form."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(n_sites, 3))
    steps *= random.uniform(0.2, 0.3, (n_sites, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
    bonds = [(i, i + 1) for i in range(n_sites - 1)]
    topology = Topology.from_bonds(np.zeros(n_sites), np.full(n_sites, 15.0), bonds)
    start = Start(np.cumsum(steps, axis=0) + 5.0, np.full(3, 10.0), None, topology)
    terms = (
        BondTerm("AA", HarmonicBasis(0.2, 0.3), 1),
        AngleTerm("AAA", AngleCosines(3), 1),
        DihedralTerm("AAAA", DihedralCosines(6), 1),
    )
    blocks = tuple(random.normal(0.0, 5.0, (1, term.n_basis)) for term in terms)
    return Model(("A",), terms, 300.0, 1.0, blocks), start


def test_the_kernels_have_their_energies_sums_and_forces():
    model, start = chain()
    found = evaluate(model, start)
    expected = naive.site_sums(start.positions, start.box, start.topology, model)
    np.testing.assert_allclose(found.sums, expected, atol=1e-7)
    assert found.energy == pytest.approx(expected @ model.theta(300.0), abs=1e-6)
    assert_forces_are_slopes(model, start, 1e-6)


def test_a_model_file_keeps_forms_apart_from_splines(tmp_path):
    model, _ = chain()
    model.write(tmp_path / "model.json")
    again = type(model).read(tmp_path / "model.json")
    assert again.terms == model.terms
    assert [term.form for term in again.terms] == ["harmonic", "cosine", "cosine"]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (HarmonicBasis, (0.3, 0.3), r"a range from 0.3 to 0.3; give an increasing one"),
        (AngleCosines, (0,), "0 functions; give at least one"),
        (DihedralCosines, (3,), "3 cosines and sines; give as many of one as the other"),
    ],
)
def test_a_form_without_range_or_functions_is_refused(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        kind(*arguments)
