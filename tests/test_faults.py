"""Disks that are full or read-only: what is told, and what is left on them."""

import errno
import mmap
import os
import subprocess
import time

import h5py
import numpy as np
import pytest

from remcg import io, launch, parallel, slurm
from remcg.checkpoint import StopRequest
from remcg.errors import InputError


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here (root and mount are needed)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)])


def refuse(number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    return refused


def test_a_full_disk_keeps_the_old_file_and_says_how_to_go_on(small_disk):
    path = small_disk / "samples.h5"
    io.write_h5(path, {"x": np.arange(10.0)})
    with pytest.raises(InputError, match=r"samples\.h5 cannot be written: the disk is full \(\d"):
        io.write_h5(path, {"x": np.arange(1_000_000.0)})
    with pytest.raises(InputError, match="Free some space and run the same command again"):
        io.write_text(path.with_name("a.txt"), "word " * 1_000_000)
    assert os.listdir(small_disk) == ["samples.h5"]
    assert np.array_equal(io.read_h5(path)[0]["x"], np.arange(10.0))


def test_a_read_only_disk_is_named_as_such(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for write in (io.write_text, lambda path, _: io.write_h5(path, {"x": np.zeros(3)})):
        with pytest.raises(InputError, match="the file system is read-only"):
            write(small_disk / "new" / "a.txt", "text")
    with pytest.raises(InputError, match=r"results/\.probe cannot be written"):
        launch.check_writable(small_disk / "results")


def test_a_disk_without_room_for_a_run_is_refused_before_it_starts(small_disk):
    (small_disk / "other").write_bytes(bytes(500_000))
    with pytest.raises(InputError, match="the disk is full"):
        launch.check_writable(small_disk)
    (small_disk / "other").unlink()
    (small_disk / ".probe").unlink(missing_ok=True)
    launch.check_writable(small_disk)
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "writing there is not permitted"),
    ],
)
def test_what_a_disk_refuses_is_an_error_of_one_paragraph(tmp_path, monkeypatch, number, words):
    path = tmp_path / "model.json"
    io.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "replace", refuse(number))
    with pytest.raises(InputError, match=f"{path} cannot be written: {words}"):
        io.write_json(path, {"a": 2})
    assert os.listdir(tmp_path) == ["model.json"]
    assert io.read_json(path) == {"a": 1}


def test_other_errors_are_not_explained_away(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        io.write_text(tmp_path / "a.txt", "text")
    with pytest.raises(PermissionError):  # of another file, read while this one is written
        with io.replacing(tmp_path / "a.txt"):
            raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input.h5")


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    done = []
    replace, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("content"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    io.write_h5(tmp_path / "a.h5", {"x": np.zeros(3)})
    assert done == ["content", "name"]
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"].shape == (3,)


def test_a_log_that_the_disk_refuses_is_told_once(small_disk):
    (small_disk / "other").write_bytes(bytes(2**20))
    told = []
    display = launch.Display(type("Stream", (), {"isatty": lambda _: False})())
    display.say = told.append
    with launch._Record(small_disk / "snakemake.log", display) as record:
        for _ in range(3):
            record.write("line\n")
    assert len(told) == 1 and "snakemake.log cannot be written: the disk is full" in told[0]


def test_marks_tell_campaigns_of_one_name_apart_and_are_names_that_slurm_takes():
    first = slurm.mark("/a/results/Wasser 2", "Wasser 2")
    second = slurm.mark("/b/results/Wasser 2", "Wasser 2")
    assert first != second
    assert first.startswith("remcg-Wasser-2-")
    assert len(slurm.mark("/x", "n" * 200)) <= 50


def test_without_slurm_its_profile_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue was not found, but the profile runs jobs with"):
        slurm.cancel("remcg-x")
    with pytest.raises(InputError, match=r"--profile: nowhere/config\.yaml does not exist"):
        launch.clear_queue("nowhere", "run", "toy", None)
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert launch.clear_queue(str(tmp_path), "run", "toy", None) == []


def test_shared_memory_of_killed_ranks_is_removed_and_that_of_living_ones_is_not(tmp_path):
    for name in ("mpich_dead", "mpich_alive", "mpich_new"):
        (tmp_path / name).write_bytes(bytes(4096))
    for name in ("mpich_dead", "mpich_alive"):
        os.utime(tmp_path / name, (0, 0))
    since = max((tmp_path / name).stat().st_ctime for name in ("mpich_dead", "mpich_alive")) + 0.01
    time.sleep(0.05)
    os.utime(tmp_path / "mpich_new")
    with open(tmp_path / "mpich_alive", "r+b") as file, mmap.mmap(file.fileno(), 4096):
        parallel.remove_stale_segments(since, str(tmp_path / "mpich_*"))
    assert sorted(os.listdir(tmp_path)) == ["mpich_alive", "mpich_new"]


def test_a_watched_process_of_another_machine_does_not_count(monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setenv("REMCG_WATCH_PID", str(ended.pid))
    monkeypatch.setenv("REMCG_WATCH_HOST", "elsewhere")
    assert StopRequest()._watched is None
    monkeypatch.setenv("REMCG_WATCH_HOST", os.uname().nodename)
    assert StopRequest()._watched == ended.pid
