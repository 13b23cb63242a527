"""remcg's side of ``bench/rem.py``: a campaign of one state, run as users run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchtools.rem_case import (
    FRICTION,
    KNOT_SPACING,
    MAPPING,
    R_CUT,
    R_MIN,
    SITE,
    STATE,
    TEMPERATURE,
    TOPOLOGY,
    TRAJECTORY,
    Clock,
    Curve,
    Reference,
)
from benchtools.timing import SINGLE_THREAD
from remcg.io import read_h5, read_json

CAMPAIGN = "rem"
BUSY = "busy_core_seconds"


def config(sampling, max_iterations):
    """The campaign as its YAML file says it (JSON is YAML)."""
    pair = dict(
        kind="pair", sites=[SITE, SITE], r_cut=R_CUT, r_min=R_MIN,
        n_basis=1 + round((R_CUT - R_MIN) / KNOT_SPACING),
    )  # fmt: skip
    state = dict(id=STATE, temperature=TEMPERATURE, trajectory=str(TRAJECTORY), use="train")
    return dict(
        campaign=CAMPAIGN,
        seed=1,
        system=dict(topology=str(TOPOLOGY), mapping=str(MAPPING)),
        states=[state],
        model=dict(temperature="constant", terms=[pair]),
        sample=dict(friction=FRICTION, ranks=1, **sampling),
        rem=dict(max_iterations=max_iterations),
    )


def run(folder, sampling, max_iterations):
    """Run the campaign up to its final model; the :class:`Curve` and the :class:`Reference`."""
    folder = Path(folder)
    path = folder / "rem.yaml"
    path.write_text(json.dumps(config(sampling, max_iterations), indent=1))
    command = [sys.executable, "-m", "remcg.launch", "--configfile", str(path), "--cores", "1"]
    command += ["--", f"results/{CAMPAIGN}/model/model.json"]
    environment = os.environ | SINGLE_THREAD
    with Clock() as clock:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the campaign failed: {(done.stdout + done.stderr)[-2000:]}")
    reference = Reference(folder / "results" / CAMPAIGN)
    return read(folder, reference, clock, sampling), reference


def read(folder, reference, clock, sampling):
    """What the iterations in a folder came to."""
    curve = Curve("remcg")
    rem = folder / "results" / CAMPAIGN / "rem"
    samples = sorted(rem.glob(f"iter-*/sample/{STATE}.h5"))
    site_steps = 0
    for path in samples:
        arrays, attributes = read_h5(path)
        blocks, (n_replicas, n_kept) = arrays["rdf_blocks"], arrays["volume"].shape
        sampled = (n_kept + int(attributes["n_discarded"])) * sampling["sample_interval"]
        site_steps += n_replicas * (sampling["equilibration"] + sampled) * reference.n_sites
        errors = reference.errors_of(blocks.reshape(-1, blocks.shape[-1]))
        curve.add(clock, path.stat().st_mtime, site_steps, errors)
    curve.total_s = clock.seconds
    curve.update_s = [busy(path) for path in sorted((folder / "logs" / CAMPAIGN).glob("update/*"))]
    plans = [read_json(path) for path in sorted(rem.glob("iter-*/update.json"))]
    curve.details["verdict"] = plans[-1]["verdict"]
    curve.details["samples_per_iteration"] = int(read_h5(samples[0])[0]["volume"].size)
    benchmarks = folder / "benchmarks" / CAMPAIGN
    for stage in ("map", "target", "guess", "sample", "update"):
        curve.details[f"{stage}_process_s"] = process_seconds(benchmarks / stage)
    return curve


def busy(log):
    """Seconds that a stage computed, reading and writing included: the last line of its log."""
    name, seconds = Path(log).read_text().split("\n")[-2].split()
    if name != BUSY:
        raise RuntimeError(f"{log} does not end with {BUSY}")
    return float(seconds)


def process_seconds(folder):
    """Wall times of the jobs of a stage, with the start of their processes."""
    return [float(p.read_text().split("\n")[1].split("\t")[0]) for p in sorted(folder.glob("*"))]
