"""Rows of a benchmark: as a printed table and as ``bench/results/<name>.json``."""

import platform
from pathlib import Path

from remcg.io import write_json

RESULTS = Path(__file__).parents[1] / "results"
SENSES = {">=": lambda ratio, target: ratio >= target, "<=": lambda ratio, target: ratio <= target}
FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "asimd", "sve")


def row(case, ours, peer, peer_name, unit, ratio, sense=None, target=None):
    """One comparison; without a target it is for information."""
    result = dict(case=case, ours=ours, peer=peer, peer_name=peer_name, unit=unit, ratio=ratio)
    if target is not None:
        result |= dict(sense=sense, target=target, holds=SENSES[sense](ratio, target))
    return result


HEAD = ("case", "peer", "ours", "theirs", "unit", "ratio", "target", "")


def _cells(each):
    target, verdict = "", ""
    if "target" in each:
        target = f"{each['sense']} {each['target']:g}"
        verdict = "holds" if each["holds"] else "misses"
    numbers = [f"{each['ours']:.4g}", f"{each['peer']:.4g}", each["unit"], f"{each['ratio']:.3f}"]
    return (each["case"], each["peer_name"], *numbers, target, verdict)


def show(rows):
    """Print the rows as a table."""
    lines = [HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def markdown(content):
    """A result file as a table for a document."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [HEAD, ["---"] * len(HEAD), *map(_cells, content["rows"])]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{content['machine']}; {versions}.\n\n{rows}"


def write(path, name, rows, **more):
    """Write the result file of a benchmark."""
    write_json(path, {"name": name, "machine": machine(), "rows": rows, **more})


def machine():
    """CPU model, cores and those of its vector instructions that matter here."""
    facts = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    model = facts.get("model name", platform.processor() or platform.machine())
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    known = facts.get("flags", facts.get("Features", "")).split()
    flags = " ".join(flag for flag in FLAGS if flag in known)
    return "; ".join(part for part in (model, ", ".join(numbers), flags) if part)
