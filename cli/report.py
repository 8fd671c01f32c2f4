"""A page about an evaluation: one HTML file with plots, which needs nothing else to be read.

Drawn by matplotlib, which is not among what p2pml needs: the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from .plots import COLOURS, check_plots
from .show import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from p2pml.peer.answers import Compared, ComparedScore, Evaluated

STYLE = (
    "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}svg{max-width:100%;height:auto}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
)
MOST = 30
"""Classes, and peers, that a map still shows."""


def report(answer: Evaluated, cluster: str) -> str:
    """The page; `answer` holds a comparison. Raises `BadInput` where matplotlib is missing."""
    check_plots()
    compared: Compared = answer["comparison"]  # type: ignore[assignment]  # it was asked for
    votes = answer["votes"]
    parts = [
        f"<h1>Evaluation of cluster {escape(plain(cluster))}</h1>",
        f"<p>{escape(answer['task'].capitalize())} on {number(answer['rows'])} held-out rows that no model was trained "
        f"on, with {votes['cast']} of {votes['expected']} votes. Intervals hold 95 %, by 200 draws of the rows.</p>",
        _table(compared["pooled"]),
        _section("Rules, and each peer alone", _dots(compared["pooled"])),
        _section("Who knows what: each peer alone, and the ensemble, on the rows of each part", _map(compared)),
    ]
    if matrix := answer.get("confusion_matrix"):
        classes = [plain(label) for label in matrix["classes"]]
        if len(classes) <= MOST:
            shares = [[count / max(1, sum(row)) for count in row] for row in matrix["counts"]]
            drawn = _svg(
                len(classes) * 0.45 + 2.2, lambda axes: _heat(axes, shares, classes, classes, matrix["counts"])
            )
            parts.append(_section("Confusion matrix: true classes down, predicted ones across", drawn))
    for curves in [compared.get("curves")] if compared.get("curves") else []:
        parts.append(
            _section("Receiver operating characteristic, each class against the rest", _svg(4.2, _roc, curves))
        )
        parts.append(
            _section("Calibration: how often a class is true, by its probability", _svg(4.2, _calibrated, curves))
        )
    residuals = [(plain(part["name"]), part["residuals"]) for part in compared["parts"] if part["residuals"]]
    if residuals:
        drawn = _svg(1.2 + 0.35 * len(residuals), _residuals, residuals)
        parts.append(_section("Residuals by part: 5, 25, 50, 75 and 95 % of truth less prediction", drawn))
    body = "\n".join(parts)
    return (
        f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>p2pml evaluate</title><style>{STYLE}</style>"
        f"<body>\n{body}\n</body></html>\n"
    )


def _section(title: str, drawn: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{drawn}"


def _table(scores: list[ComparedScore]) -> str:
    metrics = list(scores[0]["scores"])
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("", "rows", *metrics, "95 % of the first"))
    lines = []
    for each in scores:
        low, high = each["scores"][metrics[0]][1:]
        cells = [said(each), number(each["rows"]), *(number(each["scores"][metric][0]) for metric in metrics)]
        cells.append(f"{number(low)} to {number(high)}")
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{heads}</tr>\n" + "\n".join(lines) + "</table>"


def said(score: ComparedScore) -> str:
    """What a score is of."""
    return plain(score["name"]) + ("" if score["rule"] else " alone")


def _svg(height: float, draw: Callable[..., None], *more: Any) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "p2pml", "font.family": "sans-serif", "font.size": 9.0}
    ):
        figure = Figure(figsize=(8.0, min(height, 30.0)), layout="constrained")
        draw(figure.subplots(), *more)
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "p2pml"})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _dots(scores: list[ComparedScore]) -> str:
    metric = next(iter(scores[0]["scores"]))

    def draw(axes: Axes) -> None:
        shown = [each for each in scores if each["scores"][metric][0] is not None][::-1]
        for at, each in enumerate(shown):
            value, low, high = each["scores"][metric]
            colour = COLOURS[0] if each["rule"] else COLOURS[6]
            if low is not None and high is not None:
                axes.plot([low, high], [at, at], color=colour, linewidth=1.6)
            axes.plot([value or 0.0], [at], "o", color=colour, markersize=4)
        axes.set_yticks(range(len(shown)), [said(each) for each in shown])
        axes.set_xlabel(metric)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)

    return _svg(0.9 + 0.24 * len(scores), draw)


def _map(compared: Compared) -> str:
    parts = compared["parts"][:MOST]
    metric = next(iter(compared["pooled"][0]["scores"]))
    ways = [each for each in compared["pooled"] if each["peer"] or each["rule"] in ("auto", "mean")][: MOST + 2]
    values = []
    for way in ways:
        found = [[s for s in part["scores"] if (s["rule"], s["peer"]) == (way["rule"], way["peer"])] for part in parts]
        values.append([each[0]["scores"][metric][0] if each else None for each in found])
    names = [plain(part["name"]) for part in parts]
    return _svg(1.4 + 0.35 * len(ways), lambda axes: _heat(axes, values, [said(way) for way in ways], names, values))


def _heat(axes: Axes, values: Any, rows: list[str], columns: list[str], shown: Any) -> None:
    """A map with a figure in each cell; what is far below the best is as dark as what is a little below."""
    import numpy as np

    table = np.array([[np.nan if value is None else value for value in row] for row in values], float)
    least = max(np.nanmin(table), np.nanmax(table) - 1.0)
    axes.imshow(table, cmap="cividis", aspect="auto", vmin=least, vmax=np.nanmax(table))
    axes.set_xticks(range(len(columns)), columns, rotation=30 if len(columns) > 6 else 0)
    axes.set_yticks(range(len(rows)), rows)
    bright = (least + np.nanmax(table)) / 2
    for y, row in enumerate(shown):
        for x, value in enumerate(row):
            colour = "black" if table[y, x] > bright else "white"
            axes.text(x, y, number(value, 2), ha="center", va="center", color=colour, fontsize=8)


def _roc(axes: Axes, curves: Any) -> None:
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        axes.plot(*zip(*curve["roc"], strict=True), color=colour, linewidth=1.4, label=plain(curve["label"]))
    _diagonal(axes, "false positive rate", "true positive rate", len(curves))


def _calibrated(axes: Axes, curves: Any) -> None:
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        x, y, _ = zip(*curve["calibration"], strict=True)
        axes.plot(x, y, "o-", color=colour, linewidth=1.2, markersize=3, label=plain(curve["label"]))
    _diagonal(axes, "predicted probability", "share of rows", len(curves))


def _diagonal(axes: Axes, x: str, y: str, curves: int) -> None:
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    axes.set_aspect("equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if curves > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _residuals(axes: Axes, parts: list[tuple[str, list[float]]]) -> None:
    for at, (_, (low, lower, middle, upper, high)) in enumerate(parts):
        axes.plot([low, high], [at, at], color=COLOURS[0], linewidth=1.0)
        axes.plot([lower, upper], [at, at], color=COLOURS[0], linewidth=6.0, alpha=0.5)
        axes.plot([middle], [at], "o", color=COLOURS[1], markersize=4)
    axes.axvline(0.0, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(parts)), [name for name, _ in parts])
    axes.set_xlabel("truth less prediction")
