"""A peer's summary of its model: the entry by which the others know what it can vote on.

It lives in the shared catalogue under the key `summary`, so it must stay small: big things are named by digest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from p2pml.errors import RemoteError

MAX_TEXT = 300
"""Characters of a name or a reason: a sentence fits, and a catalogue value (4 KiB) holds several."""
MAX_METRICS = 16
"""Metrics of one peer: twice what regression or classification define today."""


class ModelState(StrEnum):
    """What a peer's model is doing; it votes whenever it has one, also while the next one trains."""

    LOADING = "loading"
    TRAINING = "training"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """When a fit was asked for: the highest wins, so that two at once resolve to one."""

    counter: int = 0
    peer: str = ""

    def to_data(self) -> list[Any]:
        return [self.counter, self.peer]

    @classmethod
    def from_data(cls, data: Any) -> Epoch:
        """Raises `RemoteError` on anything but what `to_data` gives."""
        match data:
            case [int(counter), str(peer)] if 0 <= counter < 2**53 and len(peer) in (0, 32):
                return cls(counter, peer)
        raise RemoteError(f"not an epoch: {data!r:.80}")


@dataclass(frozen=True, slots=True)
class FitCommand:
    """What a fit asks of every peer: train anew, on `model` or on what each one has (None)."""

    epoch: Epoch
    model: str | None = None

    def to_data(self) -> dict[str, Any]:
        return {"epoch": self.epoch.to_data(), "model": self.model}

    @classmethod
    def from_data(cls, data: Any) -> FitCommand:
        """Raises `RemoteError` on anything but what `to_data` gives.

        A factory (`package.module:factory`) is refused: what code runs on a machine is said on that machine.
        """
        if not isinstance(data, dict):
            raise RemoteError("not a fit command")
        model = _optional_text(data.get("model"), "model")
        if model is not None and ":" in model:
            raise RemoteError(f"a fit names the factory {model!r}, which only a peer's own start may do")
        return cls(Epoch.from_data(data.get("epoch")), model)


@dataclass(frozen=True, slots=True)
class Summary:
    """What one peer says of its model. `schema` is a fingerprint, `rows` counts the rows trained on."""

    state: ModelState
    model: str
    epoch: Epoch = Epoch()
    voting: bool = False
    """Whether there is a model that can vote."""
    reason: str | None = None
    """Why the last training failed, or what a user should know of this model."""
    schema: str | None = None
    task: str | None = None
    target: str | None = None
    rows: int = 0
    held_out: int = 0
    digest: str | None = None
    """SHA-256 of the model, hexadecimal: two answers came from one model if and only if it is equal."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Scores of this model alone on its peer's own held-out rows."""
    portable: bool = False
    """Whether the model has a form as plain arrays, so that other peers may hold replicas of it."""
    leaving: bool = False
    """Whether the peer is about to leave, and hands over what it holds."""

    def last_words(self) -> Summary:
        """What is kept of it with a replica: all but what only its owner's life gives a meaning."""
        return replace(self, state=ModelState.READY, reason=None, metrics={}, leaving=False)

    def to_data(self) -> dict[str, Any]:
        return {
            "state": str(self.state),
            "model": self.model,
            "epoch": self.epoch.to_data(),
            "voting": self.voting,
            "reason": self.reason[:MAX_TEXT] if self.reason else None,
            "schema": self.schema,
            "task": self.task,
            "target": self.target[:MAX_TEXT] if self.target else None,
            "rows": self.rows,
            "held_out": self.held_out,
            "digest": self.digest,
            "metrics": self.metrics,
            "portable": self.portable,
            "leaving": self.leaving,
        }

    @classmethod
    def from_data(cls, data: Any) -> Summary:
        """Raises `RemoteError` on anything but what `to_data` gives."""
        if not isinstance(data, dict):
            raise RemoteError("not a summary")
        try:
            state = ModelState(str(data.get("state")))
        except ValueError as error:
            raise RemoteError(f"not a state of a model: {data.get('state')!r:.80}") from error
        voting = data.get("voting")
        if not isinstance(voting, bool):
            raise RemoteError("a summary does not say whether its model votes")
        return cls(
            state=state,
            model=_optional_text(data.get("model"), "model") or "",
            epoch=Epoch.from_data(data.get("epoch")),
            voting=voting,
            reason=_optional_text(data.get("reason"), "reason"),
            schema=_optional_text(data.get("schema"), "schema"),
            task=_optional_text(data.get("task"), "task"),
            target=_optional_text(data.get("target"), "target"),
            rows=_count(data.get("rows"), "rows"),
            held_out=_count(data.get("held_out"), "held_out"),
            digest=_optional_text(data.get("digest"), "digest"),
            metrics=_metrics(data.get("metrics")),
            portable=data.get("portable") is True,
            leaving=data.get("leaving") is True,
        )


def _optional_text(value: Any, what: str) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= MAX_TEXT):
        return value
    raise RemoteError(f"the {what} of a summary is not a short text")


def _count(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    raise RemoteError(f"the {what} of a summary is not a count")


def _metrics(value: Any) -> dict[str, float | None]:
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        raise RemoteError("the metrics of a summary are not a short map")
    checked: dict[str, float | None] = {}
    for name, score in value.items():
        if not isinstance(name, str) or len(name) > MAX_TEXT:
            raise RemoteError("a metric of a summary has no name")
        if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
            raise RemoteError(f"the metric {name!r} of a summary is not a finite number")
        checked[name] = None if score is None else float(score)
    return checked
