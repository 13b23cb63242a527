"""Reading trajectories and logs: what is delivered, and every kind of bad file."""

import struct

import mdtraj
import numpy as np
import pytest

import waters
from remcg import trajectory
from remcg.errors import InputError

N_MOLECULES, N_FRAMES = 27, 12


@pytest.fixture(scope="module")
def frames():
    return waters.trajectory(N_MOLECULES, N_FRAMES)[0]


@pytest.fixture
def xtc(frames, tmp_path):
    path = tmp_path / "cold.xtc"
    frames.save_xtc(str(path))
    return path


def read(path, topology, **options):
    return list(trajectory.read_frames([path], topology, "cold", "topology.pdb", **options))


def test_chunks_hold_every_frame_once_and_in_order(xtc, frames):
    chunks = read(xtc, frames.topology, chunk=5)
    assert [chunk.start for chunk in chunks] == [0, 5, 10]
    positions = np.concatenate([chunk.positions for chunk in chunks])
    np.testing.assert_allclose(positions, frames.xyz, atol=6e-4)  # XTC rounds to 1e-3 nm
    boxes = np.concatenate([chunk.boxes for chunk in chunks])
    np.testing.assert_allclose(boxes, frames.unitcell_lengths, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([c.time for c in chunks]), frames.time)


def test_files_of_one_state_follow_each_other(xtc, frames):
    chunks = list(trajectory.read_frames([xtc, xtc], frames.topology, "cold", chunk=8))
    assert [chunk.start for chunk in chunks] == [0, 8, 12, 20]


@pytest.mark.parametrize("suffix", ["trr", "dcd", "nc", "lammpstrj"])
@pytest.mark.filterwarnings("ignore:.*netCDF4")
def test_other_formats_are_read_alike(frames, tmp_path, suffix):
    path = tmp_path / f"cold.{suffix}"
    frames.save(str(path))
    chunks = read(path, frames.topology, chunk=5)
    positions = np.concatenate([chunk.positions for chunk in chunks])
    # a LAMMPS dump has three decimals in Å
    np.testing.assert_allclose(positions, frames.xyz, atol=6e-5)
    boxes = np.concatenate([chunk.boxes for chunk in chunks])
    np.testing.assert_allclose(boxes, frames.unitcell_lengths, atol=6e-5)


@pytest.mark.parametrize("suffix", ["mdcrd", "pdb.gz"])
def test_a_time_to_start_at_is_refused_where_frames_have_none(frames, tmp_path, suffix):
    path = tmp_path / f"cold.{suffix}"
    frames.save(str(path))
    with pytest.raises(
        InputError, match=r"cold: has start .* cold\.\S+ is of a format without times"
    ):
        read(path, frames.topology, selection=trajectory.Selection(start=3))
    with_times = tmp_path / "cold.gro"
    frames.save(str(with_times))
    chunks = read(with_times, frames.topology, selection=trajectory.Selection(start=frames.time[5]))
    found = np.concatenate([chunk.time for chunk in chunks])
    np.testing.assert_allclose(found, frames.time[5:], atol=1e-3)


def test_chunks_of_large_systems_are_shorter(xtc, frames, monkeypatch):
    monkeypatch.setattr(trajectory, "CHUNK_ATOMS", 3 * N_MOLECULES * 4 + 1)
    assert [len(chunk.time) for chunk in read(xtc, frames.topology)] == [4, 4, 4]


def test_the_headers_of_an_xtc_tell_its_atoms_and_frames(xtc):
    assert trajectory.walk_xtc(xtc, "cold") == (3 * N_MOLECULES, N_FRAMES)


def test_the_headers_of_a_tiny_xtc_are_followed_too(tmp_path):
    small = waters.trajectory(2, 4)[0]
    path = tmp_path / "tiny.xtc"
    small.save_xtc(str(path))
    assert trajectory.walk_xtc(path, "tiny") == (6, 4)


def test_another_number_of_atoms_is_refused(xtc):
    message = (
        r"cold: topology\.pdb has 84 atoms but cold\.xtc has 81; give the topology that the "
        "trajectory was written with"
    )
    with pytest.raises(InputError, match=message):
        read(xtc, waters.topology(28))


def test_another_number_of_atoms_is_refused_in_other_formats(frames, tmp_path):
    path = tmp_path / "cold.dcd"
    frames.save(str(path))
    with pytest.raises(InputError, match=r"has 84 atoms but cold\.dcd has 81; give the topology"):
        read(path, waters.topology(28))


@pytest.mark.parametrize("left", [0.95, 0.5, 0.1])
def test_a_truncated_xtc_is_refused_with_its_frame(xtc, frames, left):
    content = xtc.read_bytes()
    xtc.write_bytes(content[: int(left * len(content))])
    with pytest.raises(InputError, match=r"cold\.xtc is truncated in frame \d+"):
        read(xtc, frames.topology)


def test_an_xtc_cut_between_frames_is_a_shorter_trajectory(xtc, frames):
    content = xtc.read_bytes()
    second = content.index(struct.pack(">2i", 1995, 3 * N_MOLECULES), 8)
    xtc.write_bytes(content[:second])
    assert sum(len(chunk.boxes) for chunk in read(xtc, frames.topology)) == 1


def test_an_overwritten_header_is_refused_with_its_frame(xtc, frames):
    content = bytearray(xtc.read_bytes())
    second = content.index(struct.pack(">2i", 1995, 3 * N_MOLECULES), 8)
    content[second : second + 8] = b"\xff" * 8
    xtc.write_bytes(content)
    with pytest.raises(InputError, match=r"cold\.xtc is corrupt at frame 1 "):
        read(xtc, frames.topology)


@pytest.mark.parametrize("content", [b"hello" * 100, b"\0" * 500])
def test_a_file_that_is_no_xtc_is_refused(tmp_path, frames, content):
    path = tmp_path / "cold.xtc"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is corrupt at frame 0"):
        read(path, frames.topology)


def test_an_empty_file_is_refused(tmp_path, frames):
    path = tmp_path / "cold.xtc"
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        read(path, frames.topology)


@pytest.mark.parametrize("suffix", ["trr", "dcd"])
def test_other_truncated_formats_are_refused(frames, tmp_path, suffix):
    path = tmp_path / f"cold.{suffix}"
    frames.save(str(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.63 * len(content))])
    with pytest.raises(InputError, match=r"(truncated or|is) corrupt"):
        read(path, frames.topology)


def test_an_overwritten_frame_is_refused(xtc, frames):
    content = bytearray(xtc.read_bytes())
    middle = content.index(struct.pack(">2i", 1995, 3 * N_MOLECULES), 8) + 120
    content[middle : middle + 200] = b"\xff" * 200
    xtc.write_bytes(content)
    with pytest.raises(InputError, match="corrupt"):
        read(xtc, frames.topology)


def test_a_file_of_unknown_format_is_refused(tmp_path, frames):
    path = tmp_path / "cold.xyzzy"
    path.write_text("?")
    with pytest.raises(InputError, match="cannot be read between frames 0 and"):
        read(path, frames.topology)


def test_coordinates_that_are_not_numbers_are_refused_with_frame_and_atom(frames, tmp_path):
    broken = mdtraj.Trajectory(frames.xyz.copy(), frames.topology)
    broken.unitcell_lengths, broken.unitcell_angles = (
        frames.unitcell_lengths,
        frames.unitcell_angles,
    )
    broken.xyz[7, 4, 1] = np.nan
    path = tmp_path / "cold.dcd"
    broken.save(str(path))
    with pytest.raises(InputError, match=r"not numbers in frame 7, atom 4 \(HOH2-H1\)"):
        read(path, frames.topology, chunk=5)


def test_a_trajectory_without_box_is_refused(frames, tmp_path):
    path = tmp_path / "cold.xtc"
    mdtraj.Trajectory(frames.xyz, frames.topology).save_xtc(str(path))
    with pytest.raises(InputError, match="has no box in frame 0"):
        read(path, frames.topology)


SKEW = np.array([[2.0, 0.0, 0.0], [-0.6, 2.1, 0.0], [0.5, 0.7, 1.9]])


def skewed(frames, vectors=SKEW):
    result = frames[:]
    result.unitcell_vectors = np.tile(vectors, (len(frames), 1, 1))
    return result


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc", "lammpstrj"])
@pytest.mark.filterwarnings("ignore:.*netCDF4")
def test_a_skew_box_is_read_as_lower_triangular_vectors(frames, tmp_path, suffix):
    path = tmp_path / f"cold.{suffix}"
    skewed(frames).save(str(path))
    boxes = np.concatenate([chunk.boxes for chunk in read(path, frames.topology, chunk=5)])
    assert boxes.shape == (N_FRAMES, 3, 3) and not np.triu(boxes, 1).any()
    np.testing.assert_allclose(boxes, np.tile(SKEW, (N_FRAMES, 1, 1)), atol=3e-5)


def test_box_vectors_of_another_convention_are_refused(frames, tmp_path):
    path = tmp_path / "cold.xtc"
    skewed(frames).save_xtc(str(path))
    content = bytearray(path.read_bytes())
    content[16:52] = struct.pack(">9f", *SKEW.T.ravel())
    path.write_bytes(content)
    with pytest.raises(InputError, match="the first must lie along x and the second in the plane"):
        read(path, frames.topology)


def test_a_box_without_volume_is_refused(frames, tmp_path):
    path = tmp_path / "cold.dcd"
    flat = frames[:]
    flat.unitcell_angles = np.full((N_FRAMES, 3), [60.0, 60.0, 120.0])
    flat.save(str(path))
    with pytest.raises(
        InputError, match=r"angles 60.00, 60.00, 120.00 degrees in frame 0, which has no"
    ):
        read(path, frames.topology)


def test_a_topology_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "topology.pdb"
    path.write_text("nothing")
    with pytest.raises(InputError, match="cannot read it as a topology"):
        trajectory.load_topology(path)


def test_a_log_gives_its_columns(frames, tmp_path):
    path = tmp_path / "cold.csv"
    waters.write_log(path, frames, 280.0)
    log = trajectory.read_log(path, "cold")
    np.testing.assert_allclose(log["volume_nm3"], frames.unitcell_volumes, rtol=1e-6)
    assert trajectory.check_log(log, frames.unitcell_volumes, frames.time, "cold") == []


def test_the_log_of_another_run_is_refused(frames, tmp_path):
    path = tmp_path / "cold.csv"
    waters.write_log(path, frames, 280.0)
    log = trajectory.read_log(path, "cold")
    with pytest.raises(InputError, match=r"in frame 0 the log says .* nm³ but the box"):
        trajectory.check_log(log, frames.unitcell_volumes[::-1], frames.time, "cold")


def test_a_longer_log_is_matched_by_time(frames, tmp_path):
    path = tmp_path / "cold.csv"
    waters.write_log(path, frames, 280.0)
    log = trajectory.read_log(path, "cold")
    log = {name: values[::-1] for name, values in log.items()}  # in any order
    part = slice(3, None, 4)
    volumes, time = frames.unitcell_volumes[part], frames.time[part]
    assert trajectory.check_log(log, volumes, time, "cold") == []
    matched = trajectory.at_frames(log, time)
    np.testing.assert_allclose(matched["time_ps"], time)
    np.testing.assert_allclose(matched["volume_nm3"], volumes, rtol=1e-6)
    with pytest.raises(InputError, match=r"in frame 0 the log says .* nm³ but the box"):
        trajectory.check_log(log, volumes[::-1], time, "cold")


def test_the_sampled_part_of_a_log_ends_with_the_last_frame():
    log = {"time_ps": np.arange(1.0, 21.0), "volume_nm3": np.arange(101.0, 121.0)}
    sampled = trajectory.while_sampled(log, np.array([8.0, 12.0, 16.0]))
    np.testing.assert_array_equal(sampled["volume_nm3"], np.arange(105.0, 117.0))


def test_a_log_that_cannot_be_matched_is_a_warning(frames, tmp_path):
    path = tmp_path / "cold.csv"
    waters.write_log(path, frames, 280.0)
    log = trajectory.read_log(path, "cold")
    volumes, time = frames.unitcell_volumes[1:], frames.time[1:] + 0.25
    (warning,) = trajectory.check_log(log, volumes, time, "cold")
    assert "the log has 12 lines but the trajectory has 11 frames" in warning
    del log["time_ps"]
    assert len(trajectory.check_log(log, volumes, frames.time[1:], "cold")) == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has the columns"),
        ("a,b\n1,2\n", r"has the columns \['a', 'b'\]"),
        ("volume_nm3\n", "and 0 lines"),
        ("volume_nm3\n1\nx\n", "has no number for volume_nm3 in line 3"),
        ("volume_nm3\n1\nnan\n", "in line 3"),
    ],
)
def test_a_bad_log_is_refused(tmp_path, text, message):
    path = tmp_path / "cold.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        trajectory.read_log(path, "cold")
