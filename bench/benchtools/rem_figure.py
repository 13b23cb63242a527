"""RDF error against wall time and against work, for all programs of ``bench/rem.py``."""

from pathlib import Path

import matplotlib
import numpy as np

from benchtools.rem_case import GOAL
from remcg.plots import BLOCK_COLORS, STYLE

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

MARKERS = ("o", "s", "^", "D")
AXES = (
    ("wall_s", 1.0, "wall time (s)"),
    ("site_steps", 1e6, "CG site steps (millions)"),
)


def draw(path, curves):
    """Two panels, both logarithmic; ``curves`` as in the result file, remcg first."""
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 2, figsize=(7.4, 3.3), sharey=True)
        for axis, (key, unit, label) in zip(axes, AXES):
            for curve, color, marker in zip(curves, BLOCK_COLORS, MARKERS):
                x, y = np.array(curve[key]) / unit, np.array(curve["rmse"])
                axis.plot(x, y, color=color, marker=marker, markersize=4.5, label=curve["name"])
            axis.axhline(GOAL, color="0.25", linewidth=0.9, linestyle="--")
            axis.set(xscale="log", yscale="log", xlabel=label)
            for each in (axis.xaxis, axis.yaxis):
                each.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                each.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                each.set_minor_formatter(NullFormatter())
        _finish(figure, axes)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        pyplot.close(figure)


def _finish(figure, axes):
    axes[0].set_ylabel("rmse of g(r), 512 sites at 310 K")
    axes[1].annotate(
        f"goal {GOAL:g}", (0.0, GOAL), (5, -10), color="0.25", fontsize=8,
        xycoords=("axes fraction", "data"), textcoords="offset points",
    )  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
