"""Check the summary of the default campaign against the limits that remcg promises for it.

Usage: python scripts/check_results.py results/spce-water/summary.json

Prints a table of value, limit and whether it holds; the exit code is 1 if anything does not. It
reads the file only and shares no code with the library, so it also checks what the library writes.
"""

import json
import math
import sys
from pathlib import Path

RDF_RMSE = {"train": 0.010, "test": 0.012}
RDF_MAX = {"train": 0.05, "test": 0.06}
DENSITY_PERCENT = {"train": 0.4, "test": 0.6}
DENSITY_SE_PERCENT = 0.15
MAX_ITERATIONS = 12
RESIDUAL_NM = 1e-6
PEAK_PERCENT = 10.0  # a guard: the default campaign cools its atoms for seconds, two frames a state
ENERGY_GAP_KJ_MOL = 2.0
ORCHESTRATION = 0.35


def state_rows(state):
    """Rows (what, value, limit) of one state."""
    use, name = state["use"], f"{state['id']} ({state['use']})"
    rows = []
    for pair, rdf in (state.get("rdf") or {"no pair": {}}).items():
        rows.append((f"{name} RDF rmse {pair}", rdf.get("rmse"), RDF_RMSE[use]))
        rows.append((f"{name} RDF max {pair}", rdf.get("max"), RDF_MAX[use]))
    density = state.get("density_kg_m3", {})
    try:
        percent = 100.0 / density["reference"]
        deviation = abs(density["model"] - density["reference"]) * percent
        error = math.hypot(density["reference_se"], density["model_se"]) * percent
        limit = max(DENSITY_PERCENT[use], 3.0 * error)
        precision = 100.0 * density["model_se"] / density["model"]
    except KeyError:
        deviation = precision = None
        limit = DENSITY_PERCENT[use]
    rows.append((f"{name} density deviation (%)", deviation, limit))
    rows.append((f"{name} SE of the model density (%)", precision, DENSITY_SE_PERCENT))
    return rows


def backmap_rows(name, entry):
    """Rows of the backmapped frames of one state: those of the model, and of the reference."""
    rows = []
    for what, item in (("backmapped", entry), ("reference backmapped", entry.get("mapped", {}))):
        label = f"{name} {what}"
        rows.append((f"{label}: residual (nm)", item.get("max_residual_nm"), RESIDUAL_NM))
        rows.append((f"{label}: defective structures", item.get("defective_structures"), 0.0))
        rows.append((f"{label}: failed frames", item.get("failed_frames"), 0.0))
    return rows + posterior_rows(f"{name} reference backmapped", entry.get("mapped", {}))


def posterior_rows(label, item):
    """Rows of the statistics of draws over the mapped reference; three standard errors pass."""
    rows = []
    gap, error = item.get("energy_gap_kJ_mol"), item.get("energy_gap_se", 0.0)
    gap = None if gap is None else abs(gap)
    rows.append((f"{label}: energy gap (kJ/mol)", gap, max(ENERGY_GAP_KJ_MOL, 3.0 * error)))
    for pair, peak in (item.get("rdf_peaks") or {"no pair": {}}).items():
        deviation, error = peak.get("deviation"), 100.0 * peak.get("se", 0.0)
        deviation = None if deviation is None else 100.0 * abs(deviation)
        limit = max(PEAK_PERCENT, 3.0 * error)
        rows.append((f"{label}: first peak {pair} (%)", deviation, limit))
    return rows


def all_rows(summary):
    """Rows (what, value, limit) of the campaign; a missing value is None."""
    rem = summary.get("rem", {})
    states = summary.get("states", [])
    backmap = summary.get("backmap", {})
    rows = [row for state in states for row in state_rows(state)]
    for use in ("train", "test"):
        missing = float(not any(state["use"] == use for state in states))
        rows.append((f"no {use} state (1 = none)", missing, 0.0))
    for state in states:
        rows += backmap_rows(state["id"], backmap.get(state["id"], {}))
    rows.append(("not converged (1 = not)", float(not rem.get("converged", False)), 0.0))
    rows.append(("iterations", rem.get("iterations"), MAX_ITERATIONS))
    rows.append(("orchestration fraction", summary.get("orchestration_fraction"), ORCHESTRATION))
    return rows


def holds(value, limit):
    return value is not None and math.isfinite(value) and value <= limit


def main(path):
    rows = all_rows(json.loads(Path(path).read_text()))
    width = max(len(what) for what, _, _ in rows)
    print(f"{'quantity'.ljust(width)}  {'value':>10}  {'limit':>10}  holds")
    for what, value, limit in rows:
        shown = "missing" if value is None else f"{value:.4g}"
        answer = "yes" if holds(value, limit) else "NO"
        print(f"{what.ljust(width)}  {shown:>10}  {limit:>10.4g}  {answer}")
    n_failed = sum(not holds(value, limit) for _, value, limit in rows)
    print(f"\n{len(rows) - n_failed} of {len(rows)} hold")
    return 1 if n_failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
