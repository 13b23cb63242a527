"""What a person sees of a run, on a terminal and in a file."""

import io
import os
import pty

import pytest

from remcg.launch import QUIET, Display
from remcg.progress import Job, sampled, sampling
from remcg.terminal import clock, cut, failing_lines, has_colour, verdict_lines

LOG = """\
cold: NPT, rank 0 of 1, 2 replicas
state cold, replica 0: step 3000 of 3000, 300.1 K, 7.5 nm^3, volume moves 52% accepted, 2000 steps/s
state cold, replica 1: step 600 of 3000, 300.3 K, 7.5 nm^3, volume moves 51% accepted, 1000 steps/s
state cold, replica 1: step 1200 of 3000, 300.2 K, 7.5 nm^3, volume moves 51% accepted, 1000 steps/s
"""
VERDICT = """\
subject\tquantity\tvalue\tse\tlimit\tunit\tstatus
rem\tconvergence (1 = yes)\t1\t\t1\t\tpass
T310\tRDF rmse W-W\t0.011\t0.002\t0.01\t\twithin noise
T340\tdensity deviation\t0.9\t0.1\t0.4\t%\tfails
"""


class Clock:
    """A time that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def test_share_speed_and_time_left_of_a_sampler_follow_from_its_log():
    assert sampled(LOG) == ["70 %", "1000 steps/s", "2 s left"]


def test_ranks_that_sample_at_the_same_time_add_their_speeds():
    log = LOG.replace("rank 0 of 1", "rank 0 of 2").replace("step 3000 of", "step 1800 of")
    assert sampled(log) == ["50 %", "3000 steps/s", "1 s left"]


def test_states_that_exchange_are_told_as_one():
    log = "all replicas: step 500 of 2000, 50 steps/s\nexchanges accepted: a-b 30%\n"
    assert sampled(log) == ["25 %", "50 steps/s", "30 s left"]


def test_a_sampler_that_has_said_nothing_yet_has_no_progress(tmp_path):
    assert sampled("cold: NPT, rank 0 of 1, 2 replicas\n") == []
    assert sampling(Job("sample", log=str(tmp_path / "not yet"))) == []
    assert sampling(Job("update", log=str(tmp_path / "not yet"))) == []


def test_a_log_is_read_while_it_is_written(tmp_path):
    path = tmp_path / "cold.log"
    path.write_text(LOG)
    assert sampling(Job("predict", log=str(path)))[0] == "70 %"


def test_in_a_file_running_jobs_are_told_once_a_minute_and_without_escapes():
    stream, time = io.StringIO(), Clock()
    display = Display(stream, time)
    for time.now in range(0, 4 * int(QUIET)):
        display.status("running: sample T310")
    assert stream.getvalue() == "running: sample T310\n" * 3
    display.say("done")
    display.status("running: predict T310")
    assert stream.getvalue().endswith("done\n")
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_on_a_terminal_the_status_stays_in_one_line_and_is_wiped(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        display = Display(stream)
        display.status("running: " + "x" * 500)
        display.say("[1/3] map")
        told = ""
        while "map" not in told:  # a read may end anywhere
            told += os.read(master, 4096).decode()
    os.close(master)
    status, line = told.rsplit("\r\x1b[K", 1)
    assert line.strip() == "[1/3] map"
    assert "\n" not in status and "running: xxx" in status and status.count("x") < 200


def test_colours_are_for_terminals_that_want_them():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert has_colour(Terminal(), {})
    assert not has_colour(Terminal(), {"NO_COLOR": "1"})
    assert not has_colour(Terminal(), {"TERM": "dumb"})
    assert not has_colour(io.StringIO(), {})


def test_the_verdict_is_counted_and_what_fails_is_named(tmp_path):
    path = tmp_path / "verdict.tsv"
    path.write_text(VERDICT)
    assert verdict_lines(path) == [
        "checks: ✓ 1 pass, ≈ 1 within noise, ✗ 1 fail",
        "  ✗ T340: density deviation 0.90 ± 0.10 %, limit 0.4 %",
    ]
    assert verdict_lines(tmp_path / "none.tsv") == []
    assert failing_lines(path) == ["T340: density deviation 0.90 ± 0.10 %, limit 0.4 %"]


@pytest.mark.parametrize(
    "seconds, told", [(41.6, "42 s"), (750, "12:30 min"), (11100, "3:05 h"), (-1, "0 s")]
)
def test_durations_are_told_in_two_numbers_at_most(seconds, told):
    assert clock(seconds) == told


def test_a_line_too_long_is_cut_to_the_columns():
    assert cut("abc\x1b[1mdef", 6) == "abcdef"
    assert cut("abcdefgh", 6) == "abcde…"
