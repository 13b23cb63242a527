"""Truncated and bit-flipped files: what remcg wrote itself is recognised, byte by byte."""

import itertools
import json

import numpy as np
import pytest

import waters
from remcg import checkpoint, trajectory
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import new_h5, open_h5, read_h5, read_json, write_h5, write_json
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.sums import check_sum, write_sum

EVERY = 23  # bytes; a prime, so that all places of a number are met


def flips(path, every=EVERY):
    """Yield copies of a file with one bit changed in every so-many-th byte, in the file's place."""
    whole = path.read_bytes()
    for at in range(0, len(whole), every):
        content = bytearray(whole)
        content[at] ^= 1 << (at // every % 8)
        path.write_bytes(bytes(content))
        yield at
    path.write_bytes(whole)


def cuts(path, count=40):
    """Yield copies of a file that end too early, in the file's place."""
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 2, count).astype(int):
        path.write_bytes(whole[:length])
        yield int(length)
    path.write_bytes(whole)


def small_model():
    terms = (PairTerm(("W", "W"), SplineBasis(0.2, 0.8, 5), 2), VolumeTerm(2, 1))
    values = (np.linspace(-1.0, 1.0, 10).reshape(2, 5) / 3.0, np.array([[0.1, 0.2]]))
    return Model(("W",), terms, 300.0, 0.03, values, {"covariance": np.eye(2) / 7.0})


def test_a_flipped_bit_in_a_model_is_recognised_or_changes_nothing(tmp_path):
    path = tmp_path / "model.json"
    small_model().write(path)
    whole, refused, total = Model.read(path).to_dict(), 0, 0
    for at in flips(path, 1):
        total += 1
        try:
            found = Model.read(path).to_dict()
        except InputError:
            refused += 1
            continue
        found = {key: value for key, value in found.items() if key in whole}
        assert json.dumps(found, default=np.ndarray.tolist) == json.dumps(
            whole, default=np.ndarray.tolist
        ), at
    assert refused > 0.5 * total  # the others are blanks, and the name of the seal
    for _ in cuts(path):
        with pytest.raises(InputError, match=r"model\.json"):
            Model.read(path)


def test_a_model_that_was_edited_by_hand_says_how_to_mean_it(tmp_path):
    path = tmp_path / "model.json"
    small_model().write(path)
    content = json.loads(path.read_text())
    content["v0"] = 0.04
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="or, if you mean the change, delete that key"):
        Model.read(path)
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert Model.read(path).v0 == 0.04


def test_json_without_a_seal_and_nested_beyond_reason_is_refused(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    for text in ("[" * 100_000, '{"a": ', "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(InputError, match="is not JSON"):
            read_json(path)


def test_every_flipped_bit_in_samples_is_recognised(tmp_path):
    path = tmp_path / "samples.h5"
    arrays = {"phi": np.arange(300.0).reshape(3, 100), "edges": np.linspace(0, 1, 11)}
    write_h5(path, arrays, {"state": "T300", "n": 3})
    found, attributes = read_h5(path)
    assert attributes["state"] == "T300" and np.array_equal(found["phi"], arrays["phi"])
    for at in flips(path):
        with pytest.raises(InputError, match=r"samples\.h5: is not a whole HDF5 file"):
            read_h5(path)
            pytest.fail(f"byte {at}")
    for _ in cuts(path):
        with pytest.raises(InputError, match="is not a whole HDF5 file"):
            read_h5(path)


def test_every_flipped_bit_in_a_streamed_map_file_is_recognised(tmp_path):
    path = tmp_path / "map.h5"
    with new_h5(path) as file:
        file.create_dataset("positions", (0, 4, 3), "f8", maxshape=(None, 4, 3))
        for n in range(1, 5):
            file["positions"].resize(n, axis=0)
            file["positions"][-1] = n
    with open_h5(path) as file:
        assert file["positions"].shape == (4, 4, 3)
    for at in flips(path, 101):
        with pytest.raises(InputError, match="is not a whole HDF5 file"), open_h5(path) as file:
            file["positions"][()]
            pytest.fail(f"byte {at}")


def test_a_damaged_checkpoint_is_ignored_and_said(tmp_path):
    path = tmp_path / "checkpoint.h5"
    checkpoint.save(path, "key", {"x": np.arange(50.0)}, {"step": 3})
    assert checkpoint.load(path, "key")[1] == {"step": 3}
    for _ in flips(path, 29):
        said = []
        assert checkpoint.load(path, "key", said.append) is None
        assert "is damaged: ignored" in said[0]


def test_files_of_earlier_versions_without_a_seal_are_read(tmp_path):
    import h5py

    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["x"] = np.arange(3)
    assert read_h5(tmp_path / "old.h5")[0]["x"].tolist() == [0, 1, 2]
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="is not a whole HDF5 file"):
        read_h5(tmp_path / "text.h5")


def read_all(path, frames):
    chunks = trajectory.read_frames([str(path)], frames.topology, "cold")
    return np.concatenate([chunk.positions for chunk in chunks])


@pytest.mark.parametrize("suffix", ["xtc", "dcd"])
def test_a_damaged_trajectory_is_an_input_error_or_has_other_numbers_but_never_a_traceback(
    tmp_path, suffix
):
    frames, _ = waters.trajectory()
    path = tmp_path / f"cold.{suffix}"
    frames[:6].save(str(path))
    whole, refused, silent = read_all(path, frames), 0, 0
    for _ in flips(path, 31):
        try:
            silent += not np.array_equal(read_all(path, frames), whole)
        except InputError:
            refused += 1
    for length in cuts(path, 20):
        try:
            assert len(read_all(path, frames)) < 6, length
        except InputError:
            refused += 1
    assert refused  # headers, sizes and ends are recognised
    assert silent  # coordinates have no checksum in these formats, hence the next test


@pytest.mark.parametrize("suffix", ["xtc", "dcd"])
def test_with_a_checksum_beside_it_every_damage_of_a_trajectory_is_recognised(tmp_path, suffix):
    frames, _ = waters.trajectory()
    path = tmp_path / f"cold.{suffix}"
    frames[:6].save(str(path))
    write_sum(path)
    assert len(read_all(path, frames)) == 6
    for _ in itertools.chain(flips(path, 61), cuts(path, 10)):
        with pytest.raises(InputError, match=r"cold\.\w+\.sha256 was written for|is empty"):
            read_all(path, frames)


def test_the_checksum_is_what_sha256sum_writes(tmp_path):
    (tmp_path / "a.xtc").write_bytes(b"abc")
    write_sum(tmp_path / "a.xtc")
    text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.xtc\n"
    assert (tmp_path / "a.xtc.sha256").read_text() == text
    check_sum(tmp_path / "a.xtc")
