"""Backmapping at length: structures over many mapped reference frames pass the gates."""

import time

import numpy as np
import pytest

from remcg import backmap, config, report
from remcg.backmap import stages
from remcg.backmap.frames import evenly_spaced, read_reference
from remcg.config import ROOT
from remcg.mapping import sites_of
from remcg.trajectory import Selection

pytestmark = pytest.mark.verify

# campaign, state, state of the templates, frames, of how many, settings, gates beside clashes, and
# statistics that hold with draws as short as these
CASES = {
    "water": (
        "spce-water", "T280", "T310", 20, 440,
        backmap.Settings(draws=1, sweeps=24000, steps=400), set(),
        {"backmap peak", "backmap energy gap", "backmap ranks"},
    ),
    "hexane": (
        "hexane", "T300", "T280", 100, 300,
        backmap.Settings(draws=1, steps=500, cutoff=1.1), set(),
        {"backmap JS", "backmap peak", "backmap energy gap", "backmap ranks"},
    ),
    "peptide": (
        "pentaalanine", "T350", "T400", 100, 1900,
        backmap.Settings(draws=1, steps=2000, cutoff=None), {"inversions", "cis_trans"},
        {"backmap JS", "backmap energy gap", "backmap ranks"},
    ),
}  # fmt: skip
ENERGY = {"water": 0.5, "hexane": 0.0, "peptide": 0.0}  # kJ/mol per molecule, beside 3 SE


@pytest.mark.parametrize("case", CASES)
def test_every_structure_over_mapped_frames_passes_the_gates(case):
    name, state, other, n_frames, n_all, settings, gates, statistics = CASES[case]
    campaign = config.load(ROOT / "config" / f"{name}.yaml", check_files=False)
    paths = [path for each in (state, other) for path in campaign.state(each).trajectory]
    missing = [path for path in paths if not path.exists()]
    if missing:
        pytest.skip(f"{missing[0]} is not there; make it with `make run`")
    topology, mapped = sites_of(campaign.topology(state), campaign.system.mapping)
    in_vacuum = settings.cutoff is None

    def read(name, count):
        of, chosen = campaign.state(name), evenly_spaced(n_all, count)
        where = of.trajectory, topology, mapped.atoms, name, chosen
        return read_reference(*where, Selection.of(of), in_vacuum)

    own, begin = read(state, n_frames), time.process_time()
    result = backmap.backmap(
        np.array([mapped.matrix @ x for x in own.positions]), own.boxes, topology, mapped,
        read(other, 50), campaign.system.force_field, campaign.state(state).temperature, 1,
        settings,
    )  # fmt: skip
    numbers = backmap.summarise(result)
    seconds = (time.process_time() - begin) / n_frames
    defects = {key: numbers[key] for key in ("clashes", *gates)}
    print(
        f"| {case}, {state} | {n_frames} | {numbers['max_residual_nm']:.1e} | "
        f"{numbers['failed_frames']} | {defects} (clashes allowed: {result.most_clashes} each) | "
        f"{numbers['defective_structures']} | {seconds:.1f} s |"
    )
    assert gates <= set(result.checked)
    assert result.failures == [] and result.offending == []
    assert numbers["n_structures"] == n_frames
    assert numbers["max_residual_nm"] <= 1e-6
    reference = read(state, 2 * n_frames)
    compared = stages.compare(campaign, state, topology, mapped, result, reference, own)
    checks = report._posterior_checks(
        state, compared.numbers, report.LIMITS | {"backmap_energy": ENERGY[case]}
    )
    print("\n".join(map(str, checks)))
    assert statistics <= {check.quantity for check in checks}
    failing = {check.quantity for check in checks if check.status == "fails"}
    assert failing & statistics == set()
