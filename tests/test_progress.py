from remcg.progress import Progress, last_words

OUTPUT = """\
Building DAG of jobs...
[Sat Nov 21 04:51:44 2026]
rule sample:
    input: results/w/rem/iter-003/model.json
    output: results/w/rem/iter-003/sample/T310.h5
    log: logs/w/sample/iter-003_T310.log
    jobid: 7
    benchmark: benchmarks/w/sample/iter-003_T310.tsv
    reason: Missing output files
    wildcards: campaign=w, iteration=003, state=T310
    resources: tmpdir=/tmp

[Sat Nov 21 04:51:58 2026]
Finished jobid: 7 (Rule: sample)
12 of 41 steps (29%) done
"""

FAILURE = """\
[Sat Nov 21 04:51:44 2026]
rule map:
    log: logs/w/map/T280.log
    jobid: 3
    wildcards: campaign=w, state=T280

[Sat Nov 21 04:51:45 2026]
Error in rule map:
    jobid: 3
    input: a.xtc
    log: logs/w/map/T280.log (check log file(s) for error details)
Exiting because a job execution failed. Look below for error messages
[Sat Nov 21 04:51:46 2026]
Error in rule map:
    jobid: 3
    input: a.xtc
    log: logs/w/map/T280.log (check log file(s) for error details)
"""


class Clock:
    """Seconds that pass one per question."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 7.0
        return self.now


def told(text):
    progress = Progress(clock=Clock())
    lines = [line for given in text.splitlines(keepends=True) for line in progress.feed(given)]
    return progress, lines


def test_a_finished_job_is_told_in_one_line_with_its_iteration_state_and_time():
    progress, lines = told(OUTPUT)
    assert lines == ["[12/41] sample    iter-003 T310         7 s"]
    assert progress.n_finished == 1
    assert not progress.running


def test_a_running_job_is_in_the_status_until_it_finishes():
    head, tail = OUTPUT.split("[Sat Nov 21 04:51:58 2026]\n")
    progress, _ = told(head)
    assert progress.status() == "running: sample iter-003 T310 (7 s)"
    for line in tail.splitlines():
        progress.feed(line)
    assert progress.status() == ""


def test_the_target_rule_counts_as_nothing_done():
    progress, lines = told("localrule all:\n    jobid: 0\n\nFinished jobid: 0 (Rule: all)\n")
    assert progress.n_finished == 0
    assert lines == []


def test_a_failure_is_kept_once_with_its_log_and_its_state():
    progress, _ = told(FAILURE)
    assert [(job.rule, job.label, job.log) for job in progress.failures] == [
        ("map", "T280", "logs/w/map/T280.log")
    ]
    assert not progress.running


def test_of_a_traceback_only_the_message_is_shown():
    log = (
        "reading\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in <module>\n    f()\nValueError: no box\n'
        "busy_core_seconds 0.1\n"
    )
    assert last_words(log) == "ValueError: no box"


def test_a_paragraph_for_the_user_is_shown_whole():
    assert last_words("error: T280: no box\nbusy_core_seconds 0.1\n") == "error: T280: no box"


def test_a_long_log_is_cut_to_its_end():
    assert last_words("\n".join(f"step {i}" for i in range(50)), n_lines=2) == "step 48\nstep 49"
