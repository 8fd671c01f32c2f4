"""What people and programs are shown: answers with labels in place of codes, members with their models."""

from __future__ import annotations

import math

import numpy as np

from p2pml.ensemble.values import Floats

from .answers import PeerRow, Predicted
from .colleagues import Colleague
from .combining import Asked


def predicted(asked: Asked, rule: str, proba: bool, took: float) -> Predicted:
    """The answer of `POST /v1/predict`; `took` is in seconds."""
    answer, schema = asked.answer, asked.schema
    shown = Predicted(predictions=[], combine=rule, combined=asked.combined, votes=asked.votes, took=took)
    if asked.because is not None:
        shown["because"] = asked.because
    if (common := asked.pooled) is not None:
        shown["common"] = common
    if asked.like is not None:
        shown["like"] = asked.like
    if (certainty := asked.certainty) is not None:
        shown["spread"] = certainty.spread.tolist()
        shown["strongest"] = certainty.strongest.tolist()
        shown["novelty"] = None if certainty.novelty is None else certainty.novelty.tolist()
    if answer.classes is None:
        values = np.asarray(answer.predictions, dtype=np.float64)
        shown["predictions"] = values.tolist()
        if asked.wrong is not None:
            shown["intervals"] = _bounds(values, asked.wrong)
        return shown
    labels = {text: schema.label(text) for text in answer.classes}
    shown["predictions"] = [labels[text] for text in answer.predictions]
    shown["classes"] = list(labels.values())
    if proba and answer.probabilities is not None:
        shown["probabilities"] = answer.probabilities.tolist()
    if asked.sets is not None:
        names = list(labels.values())
        shown["sets"] = [[names[at] for at in np.flatnonzero(row).tolist()] for row in asked.sets]
    return shown


def _bounds(values: Floats, wrong: Floats) -> list[list[float | None]]:
    """Low and high of each row; None for what has no bound, which JSON cannot say."""
    return [
        [None, None] if math.isinf(reach) else [value - reach, value + reach]
        for value, reach in zip(values.tolist(), wrong.tolist(), strict=True)
    ]


def peer_row(colleague: Colleague, misfit: str | None, held_by: list[str]) -> PeerRow:
    """One line of `GET /v1/peers`; `held_by` names who holds a replica of its model."""
    member, summary = colleague.member, colleague.summary
    row = PeerRow(
        id=member.id,
        name=member.name,
        address=f"{member.address[0]}:{member.address[1]}",
        status=str(member.status),
        generation=member.generation,
        model=None,
        held_by=held_by,
    )
    if summary is not None:
        row["model"] = {
            "name": summary.model,
            "state": "incompatible" if misfit else str(summary.state),
            "reason": misfit or summary.reason,
            "task": summary.task,
            "target": summary.target,
            "rows": summary.rows,
            "held_out": summary.held_out,
            "epoch": {"counter": summary.epoch.counter, "peer": summary.epoch.peer},
            "digest": summary.digest,
            "metrics": summary.metrics,
        }
    return row
