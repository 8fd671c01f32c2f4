"""Plots as SVG: panels one below the other that share an x axis, the same bytes for the same figures.

    from .plots import Line, Panel, draw

    svg = draw("Title", "virtual minutes", [Panel("members", [Line("alive", times, alive)])])

Drawn by matplotlib, which is not among what p2pml needs: the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from p2pml.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6f6f6f")
"""Okabe and Ito's, which those who see few colours can tell apart."""

WIDTH, HEIGHT, MARGIN = 8.0, 1.7, 0.9
"""Inches of a plot, of each of its panels, and of what is above and below them."""


@dataclass(frozen=True)
class Line:
    """One line. `style` is "solid", "dashed", "steps", or "dots" without a line; `low` and `high` make a band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "solid"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `least` and `most` bound its y axis, where they are given; `log` makes it logarithmic."""

    name: str
    lines: Sequence[Line]
    least: float | None = None
    most: float | None = None
    log: bool = False


def check_plots() -> None:
    """Raise `BadInput` where matplotlib is missing, for whoever would have much to do before it draws."""
    try:
        import matplotlib  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise BadInput("plots are drawn by matplotlib, which is not installed: pip install 'p2pml[plot]'") from error


def draw(
    title: str, x: str, panels: Sequence[Panel], log_x: bool = False, marks: Mapping[str, float] | None = None
) -> str:
    """The panels as SVG; raises as `check_plots` does. `marks` are upright lines through all, each with words."""
    check_plots()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without pyplot there is no window system and no state; text stays text, and nothing says when it was drawn.
    look: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "p2pml",
        "font.family": "sans-serif",
        "font.size": 9.0,
    }
    with mpl.rc_context(look):
        figure = Figure(figsize=(WIDTH, MARGIN + HEIGHT * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for each, panel in zip(axes, panels, strict=True):
            _draw_panel(each, panel)
            for place in (marks or {}).values():
                each.axvline(place, color="#888888", linewidth=0.8, linestyle=":")
        for words, place in (marks or {}).items():
            axes[0].annotate(words, (place, 1.0), (2, 0), ("data", "axes fraction"), "offset points", size=7.5)
        if log_x:
            axes[-1].set_xscale("log")
        axes[-1].set_xlabel(x)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "p2pml"})
    return out.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for line, colour in zip(panel.lines, COLOURS * len(panel.lines), strict=False):
        _draw_line(axes, line, colour)
    if panel.log:
        axes.set_yscale("log")
    axes.set_ylim(panel.least, panel.most)
    axes.set_ylabel(panel.name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(panel.lines) > 1:
        # Beside the axes, where it hides nothing.
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _draw_line(axes: Axes, line: Line, colour: str) -> None:
    look: dict[str, Any] = {"color": colour, "label": line.name, "linewidth": 1.4}
    if line.style == "dots":
        look |= {"linestyle": "", "marker": "o", "markersize": 2}
    elif line.style == "steps":
        look |= {"drawstyle": "steps-post"}
    elif line.style == "dashed":
        look |= {"linestyle": "--"}
    axes.plot(list(line.x), list(line.y), **look)
    if line.low is not None and line.high is not None:
        axes.fill_between(list(line.x), list(line.low), list(line.high), color=colour, alpha=0.15, linewidth=0)
