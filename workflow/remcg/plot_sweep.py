"""The figure of a sweep: likelihood of held-out states and validation scores by variant."""

import numpy as np

from remcg import plots

SCORES = (
    ("rdf_rmse", "rmse of g(r)"),
    ("density_percent", "density, % off the reference"),
)
COLORS = {"train": "0.6", "test": "C1"}


def sweep_figure(path, rows):
    """A line per variant: relative entropy above that of the best, RDF error, density error.

    Parameters
    ----------
    path : path
        PNG.
    rows : list of dict
        As from :func:`remcg.sweep_table.rows_of`.
    """
    n = len(rows)
    y = np.arange(n)[::-1]
    with plots._figure(path, (10.6, 1.4 + 0.32 * n)) as figure:
        left, *others = figure.subplots(1, 1 + len(SCORES), sharey=True)
        for at, row in zip(y, rows):
            if "held_out_nats_per_site" not in row:
                continue
            is_best = row.get("best") == "best"
            left.errorbar(
                1e3 * row["held_out_nats_per_site"],
                at,
                xerr=1e3 * row["held_out_se"],
                fmt="*" if is_best else "o",
                ms=10 if is_best else 4,
                color="C2" if is_best else "C0",
            )
        left.set_yticks(y, [row["variant"] for row in rows])
        left.set_ylim(-0.6, n - 0.4)
        left.set_xlabel("relative entropy of held-out states\nabove the best, 1e-3 nats per site")
        for axis, (key, label) in zip(others, SCORES):
            for use, color in COLORS.items():
                values = [row.get(f"{key}_{use}", np.nan) for row in rows]
                if np.isfinite(values).any():
                    axis.plot(values, y, "o", ms=4, color=color, label=use)
            axis.set_xlabel(label)
            axis.set_xlim(left=0.0)
        if others[0].get_legend_handles_labels()[0]:
            others[0].legend(frameon=False)
