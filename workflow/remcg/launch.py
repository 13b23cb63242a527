"""``python -m remcg.launch``: run a campaign, or go on with one that was stopped or killed.

The launcher owns the campaign while it runs: it holds a record with its process in
``logs/<campaign>/run.json``. Every process of the run carries the name of the campaign in its
environment, so that what a killed run left behind can be found and ended before anything is
started anew. Snakemake's own locks are not used: they belong to the working directory and would
let one campaign stop another.
"""

import argparse
import contextlib
import fcntl
import io
import itertools
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import yaml

from remcg import slurm
from remcg.config import ROOT
from remcg.errors import InputError
from remcg.io import refusals_explained, remove_unfinished
from remcg.progress import Progress, last_words
from remcg.terminal import Display, show_campaign

INTERRUPTED = 130
WIDTH = 100  # columns of a warning
DRY = {"-n", "--dry-run", "--dryrun"}  # of Snakemake
GRACE = 5.0  # seconds between asking a process to end and ending it
LEAST_ROOM = 1_000_000  # bytes that the disk of the results must take for a run to begin
PIPED = {  # of a process: no input, and all that it says as lines of one text
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    "errors": "replace",
}


class Claim:
    """The right to run one campaign, written down in ``logs/<campaign>/run.json``."""

    def __init__(self, path):
        self.path = Path(path)
        with refusals_explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+")

    def take(self, record):
        """Write ``record`` unless another live process holds the campaign."""
        owner = self._read()
        if not self._lock() or _is_alive(owner):
            raise InputError(
                f"{self.path}: process {owner.get('pid', 'unknown')} on "
                f"{owner.get('host', 'this machine')} is running this campaign. Wait for it, stop "
                f"it, or, if you are sure that it is gone, delete {self.path}."
            )
        self._write(record)

    def release(self):
        """Give the campaign free for others."""
        with contextlib.suppress(OSError):
            self._write({})
        self._file.close()

    def _lock(self):
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the record alone decides
            return True
        return True

    def _read(self):
        self._file.seek(0)
        try:
            return json.loads(self._file.read() or "{}")
        except json.JSONDecodeError:
            return {}

    def _write(self, record):
        with refusals_explained(self.path):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps(record, indent=1) + "\n")
            self._file.flush()


def _this_process(cores, started):
    process = psutil.Process()
    return {
        "pid": process.pid,
        "created": process.create_time(),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "started": started,
        "cores": cores,
    }


def _is_alive(owner):
    """Whether the process of a record still lives; one on another machine counts as living."""
    if not owner:
        return False
    if owner.get("host") != platform.node():
        job = owner.get("slurm_job")  # of a requeued job only one attempt lives
        return not job or job != os.environ.get("SLURM_JOB_ID")
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["created"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(run, in_jobs=True):
    """Living processes that carry ``REMCG_RUN=run``, without this one and its parents.

    If not ``in_jobs``, those of SLURM jobs that this process is not in are left out.
    """
    kin = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
    here = {None, os.environ.get("SLURM_JOB_ID")}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid in kin or process.status() == psutil.STATUS_ZOMBIE:
                continue
            variables = process.environ()
            if variables.get("REMCG_RUN") != run:
                continue
            if in_jobs or variables.get("SLURM_JOB_ID") in here:
                found.append(process)
    return found


def end_processes(run, in_jobs=True, patience=30.0):
    """End what :func:`processes_of` finds of a run; the number of processes found at first."""
    found = left = processes_of(run, in_jobs)
    deadline = time.monotonic() + patience
    while left and time.monotonic() < deadline:
        _end(left)
        left = processes_of(run, in_jobs)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise InputError(f"Processes {pids} of an earlier run do not end. End them and run again.")
    return len(found)


def _end(processes):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=GRACE)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE)


def remove_stale_locks(campaign, folder=".snakemake/locks"):
    """Remove Snakemake's locks on this campaign's files if no Snakemake is at work here."""
    own = [path for path in Path(folder).glob("*.lock") if _names_campaign(path, campaign)]
    owner = _snakemake_started_by_hand() if own else None
    if owner:
        raise InputError(
            f"Snakemake (process {owner}) is at work in this folder and has locked the files of "
            f"campaign {campaign}. Wait for it or stop it, then run again."
        )
    for path in own:
        path.unlink(missing_ok=True)
    return own


def _names_campaign(path, campaign):
    lines = path.read_text().splitlines()
    return any(line.startswith(f"results/{campaign}/") for line in lines)


def _snakemake_started_by_hand():
    """Process id of a Snakemake in this folder that no launcher started, or None."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()[:3]
            is_snakemake = any(Path(word).name == "snakemake" for word in command)
            if not is_snakemake or "REMCG_RUN" in process.environ():
                continue
            if Path(process.cwd()) == Path.cwd():
                return process.pid
    return None


def environment(run, cores, started):
    """Variables of the jobs: this Python's programs first, and what they may ask of their run."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": programs + os.pathsep + os.environ.get("PATH", os.defpath),
        "MPLBACKEND": "Agg",
        "REMCG_RUN": run,
        "REMCG_RUN_STARTED": f"{started:.3f}",
        "REMCG_RUN_CORES": str(cores),
        "REMCG_WATCH_PID": str(os.getpid()),
        "REMCG_WATCH_HOST": platform.node(),
    }


def _snakemake(configfile, cores, *more, profile=None):
    program = [sys.executable, "-m", "snakemake", "--configfile", str(configfile)]
    home = Path() if Path("Snakefile").exists() else ROOT
    program += ["--snakefile", str(home / "Snakefile")]
    default = home / "profiles" / "default"
    if not default.exists():  # a Snakefile that imports remcg
        default = ROOT / "profiles" / "default"
    program += ["--workflow-profile", str(profile or default)]
    return [*program, "--nolock", "--cores", str(cores), *more]


class Child:
    """Snakemake in a process group of its own; signals to the launcher are handed on to it."""

    def __init__(self, command, variables, run):
        self.signals = 0
        self._run = run
        self._earlier = {}
        self.process = subprocess.Popen(command, env=variables, start_new_session=True, **PIPED)

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._earlier[number] = signal.signal(number, self._hand_on)
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _hand_on(self, *_):
        self.signals += 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def lines(self):
        """Lines of output as they come; None for each second without one.

        Ends with the process, not with the pipe: orphans of a killed Snakemake hold that open.
        """
        arrived = queue.SimpleQueue()
        reader = threading.Thread(target=self._read, args=(arrived,), daemon=True)
        reader.start()
        asked = None
        while True:
            try:
                line = arrived.get(timeout=1.0)
            except queue.Empty:
                if self.process.poll() is not None:
                    return
                if self.signals:
                    asked = asked or time.monotonic()
                    if time.monotonic() - asked > 3 * GRACE:
                        end_processes(self._run)
                yield None
                continue
            if line is None:
                self.process.wait()
                return
            yield line

    def _read(self, arrived):
        for line in self.process.stdout:
            arrived.put(line)
        arrived.put(None)


def follow(child, display, record):
    """Show the progress of Snakemake until it ends; everything it says goes to ``record``."""
    progress = Progress()
    with display, _Record(record, display) as file:
        for line in child.lines():
            for message in progress.feed(line) if line else []:
                display.say(message)
            if line:
                file.write(line)
            display.status(progress)
    return progress


class _Record:
    """A text file; a disk that refuses it is told once and does not end the run."""

    def __init__(self, path, display):
        self._path, self._display, self._file = path, display, None

    def __enter__(self):
        self._try(lambda: open(self._path, "w"))
        return self

    def __exit__(self, *_):
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, line):
        if self._file:
            self._try(lambda: self._put(line))

    def _put(self, line):
        self._file.write(line)
        self._file.flush()
        return self._file

    def _try(self, act):
        try:
            with refusals_explained(self._path):
                self._file = act()
        except InputError as error:
            self._display.say(f"warning: {error}")
            self._file = None


def explain(progress, display, record, results):
    """Say what failed: the end of each failed job's log, or of Snakemake's output.

    A full disk cannot take a log; therefore it is looked for.
    """
    for job in progress.failures:
        display.say(f"\n{job.name} failed. Its log ends with:\n\n{_end_of(job.log)}\n")
        display.say(f"The whole log: {job.log or record}")
    if not progress.failures:
        display.say(f"\nSnakemake stopped:\n\n{_end_of(record)}\n")
        display.say(f"The whole log: {record}")
    try:
        check_writable(results)
    except InputError as error:
        display.say(f"\n{error}")


def _end_of(log):
    """Last words of a log; a disk may have refused it."""
    is_there = log and Path(log).is_file()
    words = last_words(Path(log).read_text(errors="replace")) if is_there else ""
    return words or "(nothing)"


def tell_plan(record, display):
    """How many jobs of each rule a dry run would start."""
    _, found, stats = Path(record).read_text().partition("Job stats:\n")
    display.say(stats.split("\n\n")[0] if found else "nothing to be done")


def is_report_due(results):
    """Whether ``workflow.html`` is missing or older than what it shows."""
    report, names = results / "workflow.html", ("summary.json", "report.html")
    shown = [results / name for name in names if (results / name).exists()]
    if not shown:
        return False
    latest = max(path.stat().st_mtime for path in shown)
    return not report.exists() or report.stat().st_mtime < latest


def write_report(results, configfile, variables, display, record):
    """Snakemake's report is a second call: it shows files, and they must all be there."""
    display.say("writing the record of the workflow")
    command = _snakemake(configfile, 1, "--report", str(results / "workflow.html"))
    done = subprocess.run(command, env=variables, **PIPED)
    Path(record).write_text(done.stdout)
    if done.returncode:
        display.say(f"\nThe report failed:\n\n{last_words(done.stdout)}\n")
        display.say(f"The whole log: {record}")
    return done.returncode


def conclude(results, maps, display):
    """The table of the campaign, where its results are, and what the folder ``maps`` warns of."""
    summary = results / "summary.json"
    if not summary.exists():
        return
    content = json.loads(summary.read_text())
    places = {
        "report": "report.html",
        "workflow": "workflow.html",
        "numbers": "summary.json",
        "model": "model/README.md",
        "potentials": "export",
    }
    paths = {name: results / place for name, place in places.items()}
    found = {name: path for name, path in paths.items() if path.exists()}
    show_campaign(display, content, results / "verdict.tsv", found)
    tell_warnings(maps, [state["id"] for state in content["states"]], display)


def tell_warnings(maps, states, display):
    """What the input check of each state found odd, each once; ``maps`` is the folder of maps."""
    facts = [maps / f"{state}.json" for state in states]
    found = [json.loads(path.read_text()).get("warnings", []) for path in facts if path.exists()]
    for warning in dict.fromkeys(itertools.chain(*found)):
        display.say("\n" + textwrap.fill(f"warning: {warning}", WIDTH))


def run(campaign, configfile, cores, more=(), display=None, profile=None, maps=None):
    """Run the campaign; return the exit code.

    Parameters
    ----------
    campaign : str
        Name of the campaign: the folder under ``results`` and ``logs``.
    configfile : path
        Its config.
    cores : int
        Cores that all jobs together may use.
    more : sequence of str
        Further arguments for Snakemake.
    profile : path, optional
        Folder of the workflow profile; default: the one for this machine.
    maps : str, optional
        Campaign whose mapped trajectories it uses; default: its own.
    """
    display = display or Display()
    results, logs = Path("results", campaign), Path("logs", campaign)
    maps = Path("results", maps or campaign, "map")
    started = time.time()
    if not DRY.intersection(more):
        check_writable(results)
    claim = Claim(logs / "run.json")
    claim.take(_this_process(cores, started))
    try:
        name = str(results.absolute())
        if not DRY.intersection(more):
            more = [*_clear_away(profile, name, campaign, display), *more]
            remove_unfinished(results)
        variables = environment(name, cores, started)
        command = _snakemake(configfile, cores, *more, profile=profile)
        code, progress = _run_snakemake(command, variables, name, logs, display)
        if code == 0 and DRY.intersection(more):
            tell_plan(logs / "snakemake.log", display)
        elif code == 0 or [job.rule for job in progress.failures] == ["verdict"]:
            code = _finish(code, results, maps, configfile, variables, logs, progress, display)
        elif progress.failures:
            mapped = sorted(path.stem for path in maps.glob("*.json"))
            tell_warnings(maps, mapped, display)
        return code
    finally:
        claim.release()


def check_writable(folder):
    """Refuse a folder that takes no file, before anything is started."""
    probe = folder / ".probe"
    with refusals_explained(probe):
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(LEAST_ROOM))
    probe.unlink()


def clear_queue(profile, run, campaign, display):
    """End SLURM jobs of an earlier run; the arguments that mark the jobs of this one.

    Jobs live on when Snakemake is killed, and would write the same files as the new ones. The names
    of a campaign's jobs begin with a mark of its own.
    """
    if not profile or _executor(profile) != "slurm":
        return []
    mark = slurm.mark(run, campaign)
    if found := slurm.cancel(mark):
        display.say(f"cancelled {found} SLURM jobs of an earlier run that was killed")
    return ["--slurm-jobname-prefix", mark]


def _executor(profile):
    path = Path(profile) / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"--profile: {path} does not exist; give a folder with a config.yaml, such as"
            " profiles/slurm"
        )
    return yaml.safe_load(path.read_text()).get("executor", "local")


def report(campaign, configfile, display=None, maps=None):
    """Write ``workflow.html`` anew from what is there, and show the table."""
    display = display or Display()
    results, logs = Path("results", campaign), Path("logs", campaign)
    if not (results / "summary.json").exists():
        raise InputError(
            f"{results} has no summary.json, so there is nothing to report. Run the campaign first."
        )
    variables = environment(str(results.absolute()), 1, time.time())
    code = write_report(results, configfile, variables, display, logs / "snakemake-report.log")
    conclude(results, Path("results", maps or campaign, "map"), display)
    return code


def _clear_away(profile, run, campaign, display):
    """End what an earlier run left; the arguments that mark the SLURM jobs of this one.

    Snakemake first, which would submit jobs again; then jobs, before those of their processes that
    are on this machine.
    """
    found = end_processes(run, in_jobs=False)
    arguments = clear_queue(profile, run, campaign, display)
    if found := found + end_processes(run):
        display.say(f"ended {found} processes of an earlier run that was killed")
    if remove_stale_locks(campaign):
        display.say("removed the locks of an earlier run that was killed")
    return arguments


def prepare_records(folder=".snakemake"):
    """Make the folders of Snakemake's records, in this order.

    Of two Snakemakes that make them at the same time one takes the other's for those of an old
    version, converts them, and fails when it finds the other at the same work.
    """
    for name in ("incomplete", "metadata"):
        Path(folder, name).mkdir(parents=True, exist_ok=True)


def _run_snakemake(command, variables, run, logs, display):
    record = logs / "snakemake.log"
    prepare_records()
    with Child(command, variables, run) as child:
        progress = follow(child, display, record)
    code = child.process.returncode
    if code:
        end_processes(run)
    if child.signals:
        display.say("Stopped. The same command goes on from here.")
        return INTERRUPTED, progress
    if code < 0:
        reason = signal.Signals(-code).name
        display.say(f"Snakemake was killed ({reason}). The same command goes on from here.")
        return 128 - code, progress
    if code:
        explain(progress, display, record, Path(run))
    return code, progress


def _finish(code, results, maps, configfile, variables, logs, progress, display):
    if progress.n_finished == 0:
        display.say("nothing to be done")
    if is_report_due(results):
        record = logs / "snakemake-report.log"
        code = write_report(results, configfile, variables, display, record) or code
    conclude(results, maps, display)
    return code


def check_new_inputs(campaign):
    """Read the head of every input, unless all were mapped since they and the config changed."""
    folder = Path("results", campaign.share.maps or campaign.campaign, "map")
    facts = [folder / f"{state.id}.json" for state in campaign.states]
    inputs = [campaign.source, campaign.system.mapping]
    for state in campaign.states:
        inputs += [
            campaign.topology(state.id),
            *state.trajectory,
            *([state.log] if state.log else []),
        ]
    latest = max(path.stat().st_mtime for path in inputs)
    if all(path.exists() and path.stat().st_mtime >= latest for path in facts):
        return
    from remcg.mapping import check_campaign

    with contextlib.redirect_stdout(io.StringIO()):
        check_campaign(campaign)


def check_names(campaign):
    """Names of files as Snakemake gets them: from the working directory."""
    from remcg.config import check_name
    from remcg.provenance import campaign_files

    for name, path in campaign_files(campaign).items():
        check_name(os.path.relpath(path), name)


def main(arguments=None):
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="remcg.launch", description=__doc__.split("\n")[0])
    parser.add_argument("--configfile", default="config/spce-water.yaml", help="the campaign")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores for all jobs")
    parser.add_argument("--profile", help="folder of a workflow profile, such as profiles/slurm")
    parser.add_argument("--report", action="store_true", help="only write workflow.html anew")
    parser.add_argument("snakemake", nargs="*", help="after --: more arguments for Snakemake")
    given = parser.parse_args(arguments)
    try:
        if given.cores < 1:
            raise InputError(f"--cores: found {given.cores}; give the number of cores, 1 or more")
        from remcg.config import load

        # Further arguments may ask for the reference trajectories themselves.
        campaign = load(given.configfile, check_files=not given.snakemake)
        check_names(campaign)
        if campaign.sweep and not given.report:
            from remcg import sweep

            options = ["--profile", given.profile] if given.profile else []
            return sweep.run(campaign, given.cores, given.snakemake, options)
        if given.report:
            return report(campaign.campaign, given.configfile, maps=campaign.share.maps)
        if not given.snakemake:
            check_new_inputs(campaign)
        more = {"more": given.snakemake, "profile": given.profile, "maps": campaign.share.maps}
        return run(campaign.campaign, given.configfile, given.cores, **more)
    except InputError as error:
        print(f"remcg: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
