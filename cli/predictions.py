"""How predictions are written, block by block: beside the rows they belong to, or as a peer's answer."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, TextIO

from p2pml.errors import BadInput, P2pmlError
from p2pml.peer.blocks import Block

if TYPE_CHECKING:
    from p2pml.peer.answers import Label, Predicted, Votes


def cell(value: object) -> str:
    """A value as CSV has it: numbers in full, nothing for what is missing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


SURE = ("spread", "strongest", "novelty")
"""What --sure adds for each row."""
WAITING = 2**20
"""Characters of what waits for the end of a JSON answer in memory, before they wait on disk."""


def beside(answer: Predicted) -> dict[str, Sequence[object]]:
    """The columns that `--sure` and `--interval` add, where they were asked for."""
    rows: dict[str, Any] = {**answer}
    found: dict[str, Sequence[object]] = {
        name: rows[name] or [None] * len(answer["predictions"]) for name in SURE if name in rows
    }
    if "intervals" in rows:
        found["low"], found["high"] = [low for low, _ in rows["intervals"]], [high for _, high in rows["intervals"]]
    if "sets" in rows:
        found["set"] = ["|".join(map(cell, labels)) for labels in rows["sets"]]
    return found


class Probabilities:
    """Brings every block's probabilities to the classes of the first."""

    def __init__(self) -> None:
        self.classes: list[Label] | None = None

    def rows(self, block: Block, answer: Predicted) -> Sequence[Sequence[float]]:
        """One row of probabilities for each prediction, in the order of `classes`; a lost class has 0.

        Raises `P2pmlError` where a class appears that the first block's answer did not know.
        """
        classes = answer.get("classes") or []
        probabilities = answer.get("probabilities") or []
        if self.classes is None:
            self.classes = classes
        if classes == self.classes:
            return probabilities
        known = set(self.classes)
        new = [cell(label) for label in classes if label not in known]
        if new:
            raise P2pmlError(
                f"The class {new[0]} came in with a peer that did not vote before row {block.first_row}, "
                "when the columns were already written; predict again."
            )
        at = {label: place for place, label in enumerate(classes)}
        order = [at.get(label) for label in self.classes]
        return [[0.0 if place is None else row[place] for place in order] for row in probabilities]


class Added:
    """The columns that predictions bring beside the input's own."""

    def __init__(self, proba: bool, state: dict[str, Any] | None = None) -> None:
        self._proba = proba
        self._probabilities = Probabilities()
        self._begun = bool(state)
        self._probabilities.classes = state["classes"] if state else None

    def state(self) -> dict[str, Any]:
        """What a run that goes on has to know."""
        return {"classes": self._probabilities.classes}

    def columns(self, block: Block, answer: Predicted) -> dict[str, Sequence[object]]:
        """The cells of each added column; raises `BadInput` where a column's name is taken."""
        probabilities = self._probabilities.rows(block, answer) if self._proba else ()
        added: dict[str, Sequence[object]] = {"prediction": answer["predictions"], **beside(answer)}
        if self._proba:
            names = [f"proba_{cell(label)}" for label in self._probabilities.classes or []]
            if not names:
                raise BadInput("--proba is for classification, and this ensemble's target is a number: leave it out.")
            columns = zip(*probabilities, strict=True) if probabilities else [()] * len(names)
            added |= dict(zip(names, columns, strict=True))
        if not self._begun:
            self._begun = True
            if taken := [name for name in added if name in block.columns]:
                raise BadInput(f"The file has a column {taken[0]!r} already, which predict would add: rename it.")
        return added


class CsvPredictions:
    """Writes the input's rows as they were, with `prediction` and what was asked for beside it after them.

    `state` is that of an interrupted run which it goes on with."""

    def __init__(self, stream: TextIO, proba: bool, state: dict[str, Any] | None = None) -> None:
        self._csv = csv.writer(stream, lineterminator="\n")
        self._added = Added(proba, state)
        self._headed = bool(state)

    def state(self) -> dict[str, Any]:
        """What a run that goes on has to know."""
        return self._added.state()

    def write(self, block: Block, answer: Predicted) -> None:
        """Write one block; the first brings the head."""
        added = self._added.columns(block, answer)
        if not self._headed:
            self._headed = True
            self._csv.writerow([*block.columns, *added])
        # Python's own writer puts all but booleans as `cell` does.
        columns = (
            map(cell, cells) if bool in set(map(type, cells)) else cells
            for cells in (*block.columns.values(), *added.values())
        )
        self._csv.writerows(zip(*columns, strict=True))

    def finish(self, votes: Votes, took: float) -> None:
        """Nothing: a CSV ends with its rows."""


class JsonPredictions:
    """Writes one object like a peer's answer: that answer itself for one block, else the blocks' joined.

    Predictions are written as they come. What else there is for each row follows in the object, and waits meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._only: tuple[Block, Predicted] | None = None
        self._first: Predicted | None = None
        self._probabilities = Probabilities()
        self._waiting: dict[str, IO[str]] = {}

    def write(self, block: Block, answer: Predicted) -> None:
        """Take one block's answer; it is written once the next one or the end shows what it is part of."""
        if self._first is None:
            self._first, self._only = answer, (block, answer)
            return
        if self._only is not None:
            self._stream.write('{"predictions": [')
            self._join(*self._only, comma="")
            self._only = None
        self._join(block, answer, comma=", ")

    def finish(self, votes: Votes, took: float) -> None:
        """Write what is left, with the votes behind all blocks and the seconds that they took."""
        first = self._first
        assert first is not None, "a file has at least one block"
        if self._only is not None:
            self._dump(first)
        else:
            self._stream.write("]")
            # Whose rows they are like may differ from block to block.
            rest: dict[str, object] = {
                name: value for name, value in first.items() if name not in ("predictions", "like")
            }
            rest |= {"votes": votes, "took": took}
            for name, value in rest.items():
                self._stream.write(f", {json.dumps(name)}: ")
                if name in self._waiting:
                    self._copy(self._waiting[name])
                else:
                    self._dump(value)
            self._stream.write("}")
        self._stream.write("\n")

    def _join(self, block: Block, answer: Predicted, comma: str) -> None:
        self._stream.write(comma + self._inside(answer["predictions"]))
        rows: dict[str, Any] = {name: answer.get(name) for name in (*SURE, "intervals", "sets") if name in answer}
        if answer.get("probabilities") is not None:
            rows["probabilities"] = self._probabilities.rows(block, answer)
        for name, values in rows.items():
            if name not in self._waiting:
                self._waiting[name] = SpooledTemporaryFile(WAITING, "w+", encoding="utf-8")  # noqa: SIM115 (see `_copy`)
            self._waiting[name].write(comma + self._inside(values or [None] * block.rows))

    def _copy(self, waiting: IO[str]) -> None:
        with waiting:
            waiting.seek(0)
            self._stream.write("[")
            while piece := waiting.read(2**20):
                self._stream.write(piece)
            self._stream.write("]")

    def _dump(self, value: object) -> None:
        json.dump(value, self._stream, ensure_ascii=False)

    @staticmethod
    def _inside(values: Sequence[object]) -> str:
        return json.dumps(values, ensure_ascii=False)[1:-1]
