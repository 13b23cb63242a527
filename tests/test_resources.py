"""The shipped references against published properties of their liquids and force fields."""

import mdtraj
import numpy as np
import pandas as pd
import pytest

from remcg.config import ROOT
from remcg.statistics import standard_error
from remcg.units import KG_M3

SPCE = ROOT / "resources" / "spce"
PUBLISHED = {280: (1008.0, 0.01), 295: (1001.0, 0.01), 310: (992.5, 0.006), 325: (983.0, 0.006)}
PUBLISHED[340] = (972.4, 0.006)
MASS = 512 * (15.9994 + 2 * 1.008)


@pytest.mark.parametrize("temperature", PUBLISHED)
def test_the_density_is_that_of_published_spce_water(temperature):
    log = pd.read_csv(SPCE / f"T{temperature}.csv")
    volume, error = standard_error(log["volume_nm3"].to_numpy()[None])
    density, tolerance = PUBLISHED[temperature]
    assert MASS / volume * KG_M3 == pytest.approx(density, rel=tolerance)
    assert error / volume < 0.0008


@pytest.mark.parametrize("temperature", PUBLISHED)
def test_the_log_belongs_to_the_frames_and_to_the_temperature(temperature):
    log = pd.read_csv(SPCE / f"T{temperature}.csv")
    with mdtraj.open(str(SPCE / f"T{temperature}.xtc")) as file:
        _, time, _, box = file.read()
    assert len(time) >= 380
    lines = log.set_index("time_ps")["volume_nm3"]
    np.testing.assert_allclose(np.linalg.det(box), lines[time.astype(float)], rtol=1e-4)
    np.testing.assert_allclose(np.diff(log["time_ps"]), 1.0)
    mean, error = standard_error(log["temperature_K"].to_numpy()[None])
    assert abs(mean - temperature) < 4 * error + 0.5


HEXANE = {280: 671.2, 300: 653.1, 320: 634.4}  # kg/m^3 at 1 bar: 655 at 298 K, -0.92 per K (NIST)


@pytest.mark.parametrize("temperature", HEXANE)
def test_the_density_of_hexane_is_that_of_experiment(temperature):
    log = pd.read_csv(ROOT / "resources" / "hexane" / f"T{temperature}.csv")
    volume, error = standard_error(log["volume_nm3"].to_numpy()[None])
    mass = 150 * (6 * 12.011 + 14 * 1.008)
    assert mass / volume * KG_M3 == pytest.approx(HEXANE[temperature], rel=0.02)
    assert error / volume < 0.003


# molecules, g/cm^3 at 293 K and its fall per K (CRC Handbook of Chemistry and Physics,
# "Concentrative Properties of Aqueous Solutions"; slopes between those of the two liquids)
MIXTURES = {
    "x25": (128, 384, 0.940, 6e-4),
    "x50": (216, 216, 0.885, 8e-4),
    "x75": (288, 96, 0.836, 9e-4),
}


@pytest.mark.parametrize(
    ("composition", "temperature"),
    [("x25", 280), ("x25", 320), ("x50", 300), ("x75", 280), ("x75", 320)],
)
def test_the_density_of_mixtures_is_near_that_of_experiment(composition, temperature):
    methanols, waters, density, slope = MIXTURES[composition]
    log = pd.read_csv(ROOT / f"resources/methanol-water/{composition}-T{temperature}.csv")
    volume, error = standard_error(log["volume_nm3"].to_numpy()[None])
    mass = methanols * 32.042 + waters * 18.015
    expected = 1000.0 * (density - slope * (temperature - 293))
    assert mass / volume * KG_M3 == pytest.approx(expected, rel=0.03)
    assert error / volume < 0.003


SHIPPED = sorted(p for p in (ROOT / "resources").glob("*/*.xtc") if p.parent != SPCE)


@pytest.mark.parametrize("trajectory", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_frames_and_log_of_molecules_belong_together(trajectory):
    own = trajectory.with_name(f"{trajectory.stem.split('-')[0]}.pdb")
    topology = own if own.is_file() else trajectory.with_name("topology.pdb")
    temperature = float(trajectory.stem.rsplit("T", 1)[1])
    log = pd.read_csv(trajectory.with_suffix(".csv"))
    frames = mdtraj.load(str(trajectory), top=str(topology))
    np.testing.assert_allclose(frames.time, log["time_ps"], atol=1e-3)
    np.testing.assert_allclose(frames.unitcell_volumes, log["volume_nm3"], rtol=2e-4)
    mean, error = standard_error(log["temperature_K"].to_numpy()[None])
    assert abs(mean - temperature) < 4 * error + 1.5


@pytest.mark.parametrize("temperature", HEXANE)
def test_the_references_of_hexane_are_500_ps_or_longer(temperature):
    with mdtraj.open(str(ROOT / "resources" / "hexane" / f"T{temperature}.xtc")) as file:
        time = file.read()[1]
    assert time[-1] - time[0] >= 500.0 and (np.diff(time) > 0.0).all()


def test_no_folder_of_references_is_larger_than_15_mb():
    for folder in (ROOT / "resources").iterdir():
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 15e6
