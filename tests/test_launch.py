"""The launcher on tiny workflows of shell jobs, in a folder of their own."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import psutil
import pytest

from remcg import launch
from remcg.errors import InputError

QUICK = """\
rule all:
    input: "results/toy/b.txt"
rule first:
    output: "results/toy/a.txt"
    log: "logs/toy/first/a.log"
    shell: "echo $REMCG_RUN_CORES $REMCG_WATCH_PID $REMCG_RUN_STARTED > {output} 2> {log}"
rule second:
    input: "results/toy/a.txt"
    output: "results/toy/b.txt"
    log: "logs/toy/second/b.log"
    shell: "cp {input} {output} 2> {log}"
"""

BROKEN = """\
rule all:
    input: "results/toy/a.txt"
rule first:
    output: "results/toy/a.txt"
    log: "logs/toy/first/a.log"
    shell: "echo 'error: T280: the box is missing' > {log}; exit 1"
"""

SLOW = """\
rule all:
    input: "results/toy/a.txt"
rule slow:
    output: "results/toy/a.txt"
    log: "logs/toy/slow/a.log"
    shell: "touch started; [ -e hurry ] || sleep 300; echo done > {output} 2> {log}"
"""

MEETING = """\
configfile: "config.yaml"
rule all:
    input: "results/" + config["campaign"] + "/a.txt"
rule meet:
    output: "results/{name}/a.txt"
    log: "logs/{name}/meet/a.log"
    shell:
        "touch here-{wildcards.name};"
        " for i in $(seq 300); do [ -e here-one ] && [ -e here-two ] && break; sleep 0.2; done;"
        " [ -e here-one ] && [ -e here-two ] && echo done > {output} 2> {log}"
"""

PROGRAM = "import sys; from remcg.launch import run; sys.exit(run('toy', 'config.yaml', 1))"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A workflow folder with an empty config; whatever still runs there at the end is killed."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("campaign: toy\n")
    yield tmp_path
    for process in launch.processes_of(str(tmp_path / "results" / "toy")):
        process.kill()


def run_here(snakefile, **more):
    Path("Snakefile").write_text(snakefile)
    stream = StringIO()
    code = launch.run("toy", "config.yaml", 1, display=launch.Display(stream), **more)
    return code, stream.getvalue()


def start(snakefile):
    """Start a launcher and wait until its job runs."""
    Path("Snakefile").write_text(snakefile)
    output = open("output.txt", "w")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=output, stderr=output, start_new_session=True
    )
    wait_for(lambda: Path("started").exists())
    return process


def wait_for(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, Path("output.txt").read_text()
        time.sleep(0.1)


def snakemake_of(process):
    children = psutil.Process(process.pid).children()
    return next(child for child in children if "snakemake" in child.cmdline())


def test_a_run_tells_each_job_and_a_second_run_has_nothing_to_do(folder):
    code, told = run_here(QUICK)
    assert code == 0
    assert "[1/3] first" in told
    assert "[2/3] second" in told
    assert "nothing to be done" not in told
    code, told = run_here(QUICK)
    assert code == 0
    assert "nothing to be done" in told


def test_a_dry_run_lists_the_jobs_of_each_rule_and_runs_none(folder):
    Path("Snakefile").write_text(QUICK)
    stream = StringIO()
    code = launch.run("toy", "config.yaml", 1, ["--dry-run"], launch.Display(stream))
    assert code == 0
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert ["first", "1"] in rows and ["second", "1"] in rows
    assert not Path("results/toy").exists()


def test_jobs_know_the_cores_the_launcher_and_the_start_of_their_run(folder):
    before = time.time()
    run_here(QUICK)
    cores, watched, started = Path("results/toy/a.txt").read_text().split()
    assert int(cores) == 1
    assert int(watched) == os.getpid()
    assert before - 0.01 <= float(started) <= time.time()


def test_a_failed_job_shows_the_end_of_its_log_and_the_warnings_of_its_maps(folder):
    maps = Path("results/other/map")  # that the campaign has from another one
    maps.mkdir(parents=True)
    (maps / "a.json").write_text(json.dumps({"warnings": ["a: few frames"]}))
    code, told = run_here(BROKEN, maps="other")
    assert code == 1
    assert "first failed. Its log ends with:\n\nerror: T280: the box is missing" in told
    assert "The whole log: logs/toy/first/a.log" in told
    assert told.endswith("\nwarning: a: few frames\n")
    assert "Traceback" not in told


def test_a_broken_workflow_shows_the_end_of_what_snakemake_said(folder):
    code, told = run_here('rule all:\n    input: "nowhere.txt"\n')
    assert code == 1
    assert "nowhere.txt" in told
    assert "The whole log: logs/toy/snakemake.log" in told


def test_a_live_launcher_keeps_a_second_one_out(folder):
    process = start(SLOW)
    with pytest.raises(InputError, match=f"process {process.pid} .* is running this campaign"):
        launch.run("toy", "config.yaml", 1)
    process.terminate()
    assert process.wait(60) == launch.INTERRUPTED
    assert "The same command goes on from here" in Path("output.txt").read_text()


def test_an_interrupted_run_leaves_no_process_behind(folder):
    process = start(SLOW)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == launch.INTERRUPTED
    assert launch.processes_of(str(folder / "results" / "toy")) == []


def test_after_snakemake_was_killed_its_jobs_are_ended_and_the_run_says_so(folder):
    process = start(SLOW)
    snakemake_of(process).kill()
    assert process.wait(60) == 128 + signal.SIGKILL
    assert "Snakemake was killed (SIGKILL)" in Path("output.txt").read_text()
    assert launch.processes_of(str(folder / "results" / "toy")) == []


def test_after_the_launcher_was_killed_the_next_run_ends_the_orphans_and_completes(folder):
    process = start(SLOW)
    process.kill()
    process.wait()
    assert launch.processes_of(str(folder / "results" / "toy"))
    Path("hurry").touch()
    code, told = run_here(SLOW)
    assert "of an earlier run that was killed" in told
    assert code == 0
    assert Path("results/toy/a.txt").read_text() == "done\n"


def test_what_a_killed_writer_left_unfinished_is_gone_after_the_next_run(folder):
    writer = (
        "import os; from remcg.io import replacing\n"
        "with replacing('results/toy/map/T300.h5') as path: path.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", writer]).returncode == 9
    assert len(list(Path("results/toy/map").iterdir())) == 1
    assert run_here(QUICK)[0] == 0
    assert not list(Path("results/toy/map").iterdir())


def test_two_campaigns_run_at_the_same_time_in_a_new_folder(folder):
    Path("Snakefile").write_text(MEETING)
    processes = []
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(f"campaign: {name}\n")
        program = PROGRAM.replace("'toy', 'config.yaml'", f"'{name}', '{name}.yaml'")
        with open(f"{name}.txt", "w") as output:
            command = [sys.executable, "-c", program]
            processes.append(subprocess.Popen(command, stdout=output, stderr=output))
    for name, process in zip(("one", "two"), processes):
        assert process.wait(120) == 0, Path(f"{name}.txt").read_text()
        assert Path(f"results/{name}/a.txt").read_text() == "done\n"
    for name in ("one", "two"):
        code = launch.run(name, f"{name}.yaml", 1, display=launch.Display(stream := StringIO()))
        assert code == 0 and "nothing to be done" in stream.getvalue()


def test_the_record_of_a_dead_process_does_not_count(folder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    record = {"pid": dead.pid, "created": 0.0, "host": platform.node()}
    Path("run.json").write_text(json.dumps(record))
    launch.Claim("run.json").take({})


def test_the_record_of_another_machine_counts_as_alive(folder):
    Path("run.json").write_text(json.dumps({"pid": 1, "created": 0.0, "host": "elsewhere"}))
    with pytest.raises(InputError, match=r"process 1 on elsewhere .* delete run\.json"):
        launch.Claim("run.json").take({})


def test_a_damaged_record_does_not_stop_a_run(folder):
    Path("run.json").write_text('{"pid": 1')
    launch.Claim("run.json").take({"pid": 2})
    assert json.loads(Path("run.json").read_text()) == {"pid": 2}


def test_only_the_locks_of_this_campaign_are_removed(folder):
    locks = folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/toy/a.txt\n")
    (locks / "1.output.lock").write_text("results/toy-2/a.txt\n")
    launch.remove_stale_locks("toy")
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


def test_the_report_is_due_when_the_summary_is_newer(folder):
    results = folder / "results"
    results.mkdir()
    assert not launch.is_report_due(results)
    (results / "summary.json").touch()
    assert launch.is_report_due(results)
    (results / "workflow.html").touch()
    assert not launch.is_report_due(results)
    os.utime(results / "workflow.html", (0, 0))
    assert launch.is_report_due(results)


def test_no_cores_are_refused(capsys):
    assert launch.main(["--cores", "0"]) == 2
    assert "--cores: found 0; give the number of cores, 1 or more" in capsys.readouterr().err


def test_each_warning_of_the_input_check_is_told_once_after_the_table(folder):
    facts = folder / "results" / "toy" / "map"
    facts.mkdir(parents=True)
    for state, warnings in {"a": ["a: few frames", "odd"], "b": ["odd"], "old": ["gone"]}.items():
        (facts / f"{state}.json").write_text(json.dumps({"warnings": warnings}))
    stream = StringIO()
    launch.tell_warnings(facts, ["a", "b", "c"], launch.Display(stream))
    assert stream.getvalue() == "\nwarning: a: few frames\n\nwarning: odd\n"


def test_a_mistake_in_the_config_is_one_paragraph_and_exit_code_two(folder, capsys):
    assert launch.main(["--configfile", "nowhere.yaml"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("remcg: ")
    assert "nowhere.yaml" in told
    assert "Traceback" not in told
