"""Compiled kernels: nobody meets those of a process that is at work, or was killed at it."""

import os

import pytest

import remcg


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where compiled kernels of all would be; the end of this process publishes nothing."""
    folder = tmp_path / "kernels" / "0123"
    monkeypatch.setattr(remcg, "_kernel_cache", lambda: folder)
    monkeypatch.setattr(remcg.atexit, "register", lambda *_: None)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv(remcg.OURS, "/elsewhere")
    return folder


def chosen():
    remcg.choose_cache()
    return os.environ["NUMBA_CACHE_DIR"]


def compiled(folder, *names):
    """A folder as numba leaves it."""
    for name in names:
        path = folder / "engine_1" / f"{name}-1.py311.1.nbc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(folder.name)
    return folder


def test_a_process_has_a_folder_of_its_own_until_one_is_complete(folder):
    own = chosen()
    assert own == f"{folder}.{remcg.platform.node()}.{os.getpid()}"
    compiled(folder, "kernels.all_forces")  # of one that was killed
    assert chosen() == own
    (folder / remcg.WHOLE).touch()
    assert remcg.kernels_are_compiled() and chosen() == str(folder)


def test_a_folder_that_the_user_names_is_kept(folder, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    assert chosen() == "/mine"


def test_kernels_are_given_to_all_when_the_dynamics_is_among_them(folder):
    own = compiled(folder.with_name("0123.here.1"), "kernels.all_forces")
    remcg._publish(own, folder, os.getpid())
    assert not own.exists() and not folder.exists()
    compiled(folder, "pairs.rdf")
    forgotten = compiled(folder.with_name("0123.there.2"), "pairs.rdf")
    os.utime(forgotten, (0, 0))
    remcg._publish(compiled(own, "dynamics.advance"), folder, os.getpid())
    assert [path.name for path in folder.parent.iterdir()] == ["0123"]
    assert sorted(path.name for path in folder.iterdir()) == ["complete", "engine_1"]
    assert len(list(folder.glob("engine_1/*"))) == 1
    other = compiled(folder.with_name("0123.here.3"), "dynamics.advance", "dynamics.wrap")
    remcg._publish(other, folder, os.getpid())
    assert not other.exists() and len(list(folder.glob("engine_1/*"))) == 1


def test_a_forked_process_publishes_nothing(folder):
    own = compiled(folder.with_name("0123.here.1"), "dynamics.advance")
    remcg._publish(own, folder, os.getpid() + 1)
    assert own.exists() and not folder.exists()
