"""What a person sees of a run, on a terminal and in a file."""

import contextlib
import io
import os
import pty
import re

import pytest

from remcg.progress import Job, Progress, sampled, sampling, spoken
from remcg.terminal import QUIET, Display, failing_lines, show_campaign

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
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


SUMMARY = {
    "campaign": "[red]x[/red] :tada:",
    "rem": {"converged": True, "iterations": 6, "chi2_per_dof": 1.1},
    "states": [
        {
            "id": "T310",
            "use": "train",
            "rdf": {"[b]-W": {"rmse": 0.011, "rmse_se": 0.002, "max": 0.03}},
            "density_kg_m3": {
                "reference": 1000.0, "reference_se": 0.6, "model": 1002.0, "model_se": 0.8,
            },
            "pressure_bar": {"target": 1.0, "model": 3.0, "model_se": 8.0},
        },
        {"id": "T340", "use": "test"},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain_variables(monkeypatch):
    """Nothing that the machine asks of colours and columns."""
    names = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "")


class Clock:
    """A time that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


class Terminal:
    """A pseudo-terminal; what was written to it until now."""

    def __init__(self):
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.stream = os.fdopen(slave, "w")

    def read(self):
        self.stream.flush()
        told = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.master, 4096):
                told += piece
        return told.decode().replace("\r\n", "\n")

    def close(self):
        self.stream.close()
        os.close(self.master)


@pytest.fixture
def terminal():
    found = Terminal()
    yield found
    found.close()


def columns(monkeypatch, number):
    """Take the width of the terminal from a variable, as rich does."""
    monkeypatch.setenv("COLUMNS", str(number))
    monkeypatch.setenv("LINES", "40")


def jobs(*running):
    progress = Progress(Clock())
    progress.running = {str(k): job for k, job in enumerate(running)}
    for job in running:
        job.started = 0.0
    return progress


def log_of(tmp_path, text):
    path = tmp_path / "cold.log"
    path.write_text(text)
    return str(path)


def checks(tmp_path):
    path = tmp_path / "verdict.tsv"
    path.write_text(VERDICT)
    return path


def test_share_speed_and_time_left_of_a_sampler_follow_from_its_log():
    assert sampled(LOG).told() == ["70 %", "1000 steps/s", "2 s left"]


def test_ranks_that_sample_at_the_same_time_add_their_speeds():
    log = LOG.replace("rank 0 of 1", "rank 0 of 2").replace("step 3000 of", "step 1800 of")
    assert sampled(log).told() == ["50 %", "3000 steps/s", "1 s left"]


def test_states_that_exchange_are_told_as_one():
    log = "all replicas: step 500 of 2000, 50 steps/s\nexchanges accepted: a-b 30%\n"
    assert sampled(log).told() == ["25 %", "50 steps/s", "30 s left"]


def test_a_sampler_that_has_said_nothing_yet_has_no_progress(tmp_path):
    assert sampled("cold: NPT, rank 0 of 1, 2 replicas\n") is None
    assert sampling(Job("sample", log=str(tmp_path / "not yet"))) is None
    assert sampling(Job("update", log=log_of(tmp_path, LOG))) is None


def test_a_log_is_read_while_it_is_written(tmp_path):
    assert sampling(Job("predict", log=log_of(tmp_path, LOG))).done == 4200


def test_in_a_file_running_jobs_are_told_once_a_minute_and_without_escapes(tmp_path):
    stream, time = io.StringIO(), Clock()
    progress = jobs(Job("sample", log=log_of(tmp_path, LOG), label="iter-003 " + "long" * 40))
    with Display(stream, time) as display:
        for time.now in range(0, 4 * int(QUIET)):
            display.status(progress)
        line = f"running: sample iter-003 {'long' * 40} (0 s, 70 %, 1000 steps/s, 2 s left)\n"
        assert stream.getvalue() == 3 * line
        display.say("done")
        display.status(progress)
    assert stream.getvalue() == 3 * line + "done\n"


def test_where_nothing_runs_a_file_gets_no_line():
    stream, time = io.StringIO(), Clock()
    display = Display(stream, time)
    time.now = 2 * QUIET
    display.status(jobs())
    assert stream.getvalue() == ""


def test_on_a_terminal_running_jobs_have_a_line_each_that_is_wiped(monkeypatch, terminal, tmp_path):
    columns(monkeypatch, 100)
    progress = jobs(
        Job("sample", log=log_of(tmp_path, LOG), label="iter-003 [bold]T310"), Job("update")
    )
    with Display(terminal.stream, Clock()) as display:
        display.status(progress)
        shown = ESCAPE.sub("", terminal.read()).split("\n")
        assert [line.split() for line in shown] == [
            ["━" * 14 + "╺" + "━" * 5, "sample", "iter-003", "[bold]T310",
             "70", "%,", "1000", "steps/s,", "2", "s", "left,", "0", "s"],
            ["update", "0", "s"],
        ]  # fmt: skip
        display.say("[1/3] map")
        told = terminal.read()
        assert told.index("\x1b[2K") < told.index("[1/3] map")  # lines are cleared before it
    left = terminal.read()
    assert left.endswith(2 * "\x1b[1A\x1b[2K") and "\x1b[?25h" in left  # with its cursor


def test_a_terminal_is_drawn_twice_a_second_however_much_snakemake_says(terminal):
    time, progress = Clock(), jobs(Job("update"))
    with Display(terminal.stream, time) as display:
        display.status(progress)
        terminal.read()
        for time.now in (0.1, 0.2, 0.4):
            display.status(progress)
            assert terminal.read() == ""
        time.now = 0.5
        display.status(progress)
        assert "update" in terminal.read()


def test_running_jobs_fit_into_a_narrow_terminal(monkeypatch, terminal, tmp_path):
    columns(monkeypatch, 40)
    progress = jobs(Job("sample", log=log_of(tmp_path, LOG), label="iter-003 " + "x" * 100))
    with Display(terminal.stream, Clock()) as display:
        display.status(progress)
        shown = ESCAPE.sub("", terminal.read()).strip()
    assert "\n" not in shown and len(shown) <= 40
    assert shown.startswith("sample iter-003 x") and "…" in shown


def test_colours_are_for_terminals_that_want_them(monkeypatch, terminal):
    def told(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        Display(terminal.stream).say("✗ off", "fails")
        return terminal.read()

    assert re.search(r"\x1b\[[0-9;]*31m✗ off", told())
    assert "31m" not in told(NO_COLOR="1")
    assert told(TERM="dumb") == "✗ off\n"
    stream = io.StringIO()
    Display(stream).say("✗ off", "fails")
    assert stream.getvalue() == "✗ off\n"


def test_a_long_line_is_left_to_the_terminal_to_break(monkeypatch, terminal):
    columns(monkeypatch, 40)
    Display(terminal.stream).say("results/" + "x" * 100)
    assert terminal.read() == "results/" + "x" * 100 + "\n"


def test_the_end_of_a_run_has_states_checks_and_paths_and_reads_no_markup(tmp_path):
    stream = io.StringIO()
    show_campaign(Display(stream), SUMMARY, checks(tmp_path), {"report": "results/[x]/report.html"})
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    header, rule, trained, tested = lines[1:5]
    assert re.split(r"\s{2,}", header) == ["state", "use", "RDF rmse", "max", "density (kg/m3)",
                                           "off (%)", "pressure (bar)", "verdict"]  # fmt: skip
    assert set(rule) == {"─"}
    assert re.split(r"\s{2,}", trained) == [
        *("T310", "train", "0.0110 ± 0.0020", "0.030", "1002.00 ± 0.80", "0.20 ± 0.10"),
        *("3.0 ± 8.0", "≈ within noise"),
    ]
    assert re.split(r"\s{2,}", tested) == ["T340", "test", *["-"] * 5, "✗ fails"]
    assert lines[-5:] == [
        "[red]x[/red] :tada:: Converged after 6 iterations (χ² per degree of freedom 1.10)",
        "report:     results/[x]/report.html",
        "",
        "checks: ✓ 1 pass, ≈ 1 within noise, ✗ 1 fail",
        "  ✗ T340: density deviation 0.90 ± 0.10 %, limit 0.4 %",
    ]
    assert "\x1b" not in stream.getvalue()


def test_without_checks_no_verdict_is_told(tmp_path):
    stream = io.StringIO()
    show_campaign(Display(stream), SUMMARY, tmp_path / "none.tsv", {})
    assert "verdict" not in stream.getvalue() and "checks" not in stream.getvalue()


def test_on_a_narrow_terminal_the_table_becomes_a_block_per_state(monkeypatch, terminal, tmp_path):
    columns(monkeypatch, 48)
    show_campaign(Display(terminal.stream), SUMMARY, checks(tmp_path), {})
    lines = [line.rstrip() for line in ESCAPE.sub("", terminal.read()).splitlines()]
    assert lines[1:4] == [
        "state T310",
        "  use              train",
        "  RDF rmse         0.0110 ± 0.0020",
    ]
    assert "  verdict          ✗ fails" in lines
    assert max(map(len, lines[1:17])) <= 48


def test_the_checks_that_fail_are_named_and_many_are_counted(tmp_path):
    path = checks(tmp_path)
    assert failing_lines(path) == ["T340: density deviation 0.90 ± 0.10 %, limit 0.4 %"]
    path.write_text(VERDICT + 14 * VERDICT.splitlines(keepends=True)[-1])
    stream = io.StringIO()
    show_campaign(Display(stream), SUMMARY, path, {})
    told = stream.getvalue()
    assert told.count("density deviation") == 12
    assert told.endswith(f"  and 3 more in {path}\n")


def test_an_encoding_without_a_sign_is_no_error(tmp_path):
    path = tmp_path / "latin.txt"
    with open(path, "w", encoding="latin-1") as stream:
        show_campaign(Display(stream), SUMMARY, checks(tmp_path), {})
    assert "0.0110 ± 0.0020" in path.read_text("latin-1")


@pytest.mark.parametrize(
    "seconds, told", [(41.6, "42 s"), (750, "12:30 min"), (11100, "3:05 h"), (-1, "0 s")]
)
def test_durations_are_told_in_two_numbers_at_most(seconds, told):
    assert spoken(seconds) == told
