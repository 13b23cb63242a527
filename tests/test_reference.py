import mdtraj
import numpy as np
import pandas as pd
import pytest

from remcg.config import ROOT
from remcg.errors import InputError
from remcg.reference import simulate

TOPOLOGY = ROOT / "resources" / "spce" / "topology.pdb"


def run(folder, **settings):
    files = folder / "run.xtc", folder / "run.csv"
    simulate(TOPOLOGY, ["spce.xml"], 300.0, 1.0, *files, 1, **settings)
    return files


def test_a_short_reference_has_its_frames_its_log_and_its_temperature(tmp_path):
    trajectory, log = run(tmp_path, equilibration=0.1, production=0.2, interval=0.1)
    frames, lines = mdtraj.load(str(trajectory), top=str(TOPOLOGY)), pd.read_csv(log)
    assert frames.n_frames == len(lines) == 2
    np.testing.assert_allclose(frames.unitcell_volumes, lines["volume_nm3"], rtol=1e-4)
    np.testing.assert_allclose(lines["time_ps"], [0.1, 0.2])
    assert 150.0 < lines["temperature_K"].iloc[-1] < 400.0
    assert -60.0 < lines["potential_energy_kJ_mol"].iloc[-1] / 512 < -35.0
    assert not list(tmp_path.glob("*.partial"))


def test_a_cut_off_beyond_half_the_box_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs a box of at least 3 nm"):
        run(tmp_path, cutoff=1.5)
