"""Laws of plots: well-formed SVG that shows what it was given, the same each time."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

from p2pml.cli.plots import Line, Panel, draw
from p2pml.errors import BadInput

PANELS = [
    Panel("members", [Line("alive", [0, 1, 2], [8, 8, 7], "steps"), Line("believed", [0, 1, 2], [8, 8, 8], "dashed")]),
    Panel("score", [Line("of all", [0, 1], [0.5, 0.75], "dots", [0.4, 0.7], [0.6, 0.8])], least=0, most=1),
    Panel("bytes", [Line("a peer", [0, 1], [1, 1000])], log=True),
]


def test_a_plot_says_what_its_lines_are() -> None:
    """Every title, axis, line and mark is text of the picture."""
    drawn = draw("A run", "minutes", PANELS, marks={"healed": 0.5})
    texts = {element.text for element in ElementTree.fromstring(drawn).iter()}
    assert {"A run", "minutes", "members", "alive", "believed", "score", "bytes", "healed"} <= texts


def test_the_same_figures_draw_the_same_plot() -> None:
    """Byte for byte; another scale draws another."""
    assert draw("A run", "n", PANELS) == draw("A run", "n", PANELS) != draw("A run", "n", PANELS, log_x=True)


def test_without_matplotlib_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match=r"pip install 'p2pml\[plot\]'"):
        draw("A run", "n", PANELS)
