"""The terms of a model: where their splines begin, and how many an open term gets."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

import tiny
import waters
from remcg import config, pairs, plot_learning, terms
from remcg.basis import SplineBasis
from remcg.basis_size import BasisSize
from remcg.errors import InputError
from remcg.io import write_h5
from remcg.model import VolumeTerm

FRAMES = 1000


def model_config(**pair):
    term = config.PairTermConfig(
        **{"kind": "pair", "sites": ["W", "W"], "r_cut": 0.9, "n_basis": 10, **pair}
    )
    volume = config.VolumeTermConfig(kind="volume", order=2, temperature="quadratic")
    return config.ModelConfig(terms=[volume, term])


def pair_terms(*arguments):
    return [term for term in terms.model_terms(*arguments) if term.kind == "pair"]


def test_splines_begin_below_the_first_pair_of_any_training_state():
    (term,) = pair_terms(model_config(), [{"W-W": 0.2457}, {"W-W": 0.2434}])
    assert term.basis == SplineBasis(0.24, 0.9, 10)
    assert term.n_orders == 2


def test_an_onset_on_the_grid_stays_there():
    (term,) = pair_terms(model_config(), [{"W-W": 0.245}])
    assert term.basis.r_min == 0.245


def test_the_config_may_set_the_start_of_the_splines():
    (term,) = pair_terms(model_config(r_min=0.2), [{}])
    assert term.basis.r_min == 0.2


def test_the_terms_of_the_model_keep_the_order_of_the_config():
    found = terms.model_terms(model_config(), [{"W-W": 0.25}])
    assert found[0] == VolumeTerm(2, 3)
    assert found[1].name == "W-W"


def test_a_pair_that_is_never_sampled_is_refused():
    with pytest.raises(InputError, match=r"the pair W-W is not sampled within r_cut = 0\.9 nm"):
        pair_terms(model_config(), [{}, {}])


def test_a_pair_that_is_first_sampled_beyond_the_cutoff_is_refused():
    with pytest.raises(InputError, match=r"first sampled at 0\.95 nm, beyond r_cut = 0\.9 nm"):
        pair_terms(model_config(), [{"W-W": 0.95}])


def test_an_open_number_of_functions_is_provisional_at_first():
    assert pair_terms(model_config(n_basis="auto", r_min=0.3), [{}])[0].n_basis == 31  # 0.02 nm


def campaign(tmp_path, n_basis="auto", sites=(("AR", "AR"),), **pair):
    """Two training states of a fluid with a known potential of 10 splines on 0.25 to 0.6 nm."""
    common = {"kind": "pair", "r_cut": 0.6, "n_basis": n_basis, **pair}
    content = waters.content()
    content["states"] = content["states"][:2]
    content["model"]["terms"][:1] = [{**common, "sites": list(names)} for names in sites]
    for name in ("topology.pdb", "water.yaml", "cold.xtc", "hot.xtc"):
        (tmp_path / name).touch()
    return load(tmp_path, content)


def load(folder, content):
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return config.load(path)


@pytest.fixture(scope="module")
def trajectories():
    """Positions and boxes of both states."""
    return [
        tiny.sampled(tiny.true_model(), temperature, FRAMES, seed, interval=40)
        for seed, temperature in enumerate((280.0, 320.0))
    ]


def mapped(folder, trajectories, names=("AR",)):
    """Map files and facts of the trajectories; site i is of type i modulo their number."""
    files, facts = [], []
    types = np.arange(tiny.N_SITES) % len(names)
    kinds = [(a, b) for a in range(len(names)) for b in range(a, len(names))]
    for number, (positions, boxes) in enumerate(trajectories):
        onsets = pairs.onset(positions, boxes, types, kinds)
        files.append(folder / f"{number}.h5")
        arrays = {"positions": positions, "box": boxes, "site_types": types}
        arrays["masses"] = np.full(tiny.N_SITES, tiny.MASS)
        attributes = {"site_names": json.dumps(list(names)), "n_molecules": tiny.N_SITES}
        write_h5(files[-1], arrays, attributes)
        facts.append(
            {
                "n_frames": len(positions),
                "n_molecules": tiny.N_SITES,
                "site_names": list(names),
                "volume_per_molecule": boxes.prod(axis=1).mean() / tiny.N_SITES,
                "onset": {f"{names[a]}-{names[b]}": r for (a, b), r in zip(kinds, onsets)},
            }
        )
    return files, facts


def test_an_open_term_gets_about_as_many_functions_as_the_true_potential_has(
    tmp_path, trajectories
):
    found, sizes = terms.resolve(campaign(tmp_path), *mapped(tmp_path, trajectories))
    size = sizes["AR-AR"]
    assert 7 <= size.n_basis <= 16
    assert found[0].basis == SplineBasis(0.255, 0.6, size.n_basis)
    assert found[0].n_orders == 2 and found[1] == VolumeTerm(2, 2)
    assert (size.candidates[0], size.candidates[-1]) == (4, 35)  # at most one every 0.01 nm
    terms.write(tmp_path / "terms.json", ["AR"], found)
    assert terms.read(tmp_path / "terms.json") == (["AR"], found)
    plot_learning.write_basis_table(tmp_path / "table.tsv", size)
    lines = (tmp_path / "table.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(size.candidates)


def test_the_size_of_a_chunk_does_not_matter(tmp_path, trajectories, monkeypatch):
    arguments = campaign(tmp_path), *mapped(tmp_path, trajectories)
    expected = terms.resolve(*arguments)[1]["AR-AR"]
    monkeypatch.setattr(terms, "CHUNK", 7)
    size = terms.resolve(*arguments)[1]["AR-AR"]
    assert size.n_basis == expected.n_basis
    np.testing.assert_allclose(size.bias, expected.bias, rtol=1e-6, atol=1e-8)


def test_given_numbers_are_kept_and_no_trajectory_is_read(tmp_path, trajectories):
    _, facts = mapped(tmp_path, trajectories)
    found, sizes = terms.resolve(campaign(tmp_path, n_basis=9), ["none", "none"], facts)
    assert found[0].n_basis == 9 and sizes == {}


def test_the_terms_of_a_mixture_are_chosen_whatever_their_order(tmp_path, trajectories):
    sites = [("A", "A"), ("A", "B"), ("B", "B")]
    inputs = mapped(tmp_path, trajectories, ("A", "B"))
    content = campaign(tmp_path, sites=sites)
    given = replace(content.model.terms[1], n_basis=9)
    both = [content.model.terms[0], given, *content.model.terms[2:]]
    chosen = []
    for order in (both, both[::-1]):
        model = replace(content.model, terms=order)
        found, sizes = terms.resolve(replace(content, model=model), *inputs)
        assert set(sizes) == {"A-A", "B-B"}
        assert [term.name for term in found] == [term.name for term in order]
        chosen.append({term.name: term.n_basis for term in found})
    assert chosen[0] == chosen[1]
    assert chosen[0]["A-B"] == 9


def test_too_few_frames_to_choose_from_are_refused(tmp_path, trajectories):
    short = [(positions[:12], boxes[:12]) for positions, boxes in trajectories]
    message = r"cold: has 12 frames, .* for AR-AR \(auto\); give a trajectory of 20 frames or more"
    with pytest.raises(InputError, match=message):
        terms.resolve(campaign(tmp_path), *mapped(tmp_path, short))


def test_fewer_decorrelated_frames_than_parameters_are_refused(tmp_path, trajectories):
    slow = [(x[:3].repeat(8, axis=0), boxes[:3].repeat(8, axis=0)) for x, boxes in trajectories]
    message = r"about \d+ decorrelated frames .* the 12 parameters of a model with 4 functions"
    with pytest.raises(InputError, match=message):
        terms.resolve(campaign(tmp_path), *mapped(tmp_path, slow))


def test_few_frames_leave_out_what_they_cannot_determine(tmp_path, trajectories):
    few = [(positions[::50], boxes[::50]) for positions, boxes in trajectories]
    _, sizes = terms.resolve(campaign(tmp_path), *mapped(tmp_path, few))
    assert sizes["AR-AR"].candidates[-1] * 2 + 4 <= 40


def test_a_pair_that_is_never_met_has_no_number_of_functions_to_choose(tmp_path, trajectories):
    inputs = mapped(tmp_path, trajectories)
    with pytest.raises(
        InputError, match=r"AR-AR is hardly ever closer than r_cut = 0\.15 nm in the"
    ):
        terms.resolve(campaign(tmp_path, r_min=0.1, r_cut=0.15), *inputs)


def test_a_state_that_lacks_a_pair_does_not_keep_the_others_from_choosing(tmp_path, trajectories):
    files, facts = mapped(tmp_path, trajectories)
    content = campaign(tmp_path)
    states = [*content.states, replace(content.states[1], id="lacking", weight=0.01)]
    files, facts = [*files, files[1]], [*facts, facts[1] | {"onset": {}}]
    _, sizes = terms.resolve(replace(content, states=states), files, facts)
    assert 7 <= sizes["AR-AR"].n_basis <= 16


def test_a_slope_in_temperature_needs_the_pair_at_two_temperatures(tmp_path, trajectories):
    files, facts = mapped(tmp_path, trajectories)
    facts[1]["onset"] = {}
    message = (
        r"the pair term AR-AR needs 2 or more temperatures, but its sites meet in training states"
        r" at 280 K only; add training states .*, or set temperature: constant for this term"
    )
    with pytest.raises(InputError, match=message):
        terms.resolve(campaign(tmp_path, n_basis=9), files, facts)
    found, _ = terms.resolve(campaign(tmp_path, n_basis=9, temperature="constant"), files, facts)
    assert found[0].n_orders == 1


def test_a_slope_in_temperature_needs_the_bond_at_two_temperatures(tmp_path):
    content = campaign(tmp_path, n_basis=9)
    bond = config.BondTermConfig(kind="bond", sites=["AR", "AR"], form="harmonic")
    model = replace(content.model, terms=[*content.model.terms, bond])
    facts = [{"onset": {"AR-AR": 0.25}, "bonded": {"bond AR-AR": {"low": 0.2, "high": 0.3}}}] * 2
    found, _ = terms.resolve(replace(content, model=model), [], facts)
    assert found[-1].n_orders == 2
    facts[1] = facts[1] | {"bonded": {}}
    with pytest.raises(
        InputError, match=r"the bond term AR-AR needs 2 .* its bonds occur in .* at 280 K"
    ):
        terms.resolve(replace(content, model=model), [], facts)


def test_functions_below_the_first_pair_are_added_at_the_same_spacing(tmp_path, trajectories):
    inputs = mapped(tmp_path, trajectories)
    found, _ = terms.resolve(campaign(tmp_path), *inputs)
    longer, _ = terms.resolve(campaign(tmp_path, r_min=0.155), *inputs)
    spacing = found[0].basis.spacing
    assert longer[0].basis.r_min == 0.155 and found[0].basis.r_min == 0.255
    assert longer[0].basis.spacing == pytest.approx(spacing, rel=0.05)


def test_the_choice_is_drawn_also_where_an_estimate_is_negative(tmp_path):
    size = BasisSize(8, np.array([4, 8, 12]), np.array([1.0, 0.1, -0.01]), np.full(3, 0.1))
    plot_learning.basis_figure(tmp_path / "basis.png", size)
    assert (tmp_path / "basis.png").read_bytes().startswith(b"\x89PNG")
