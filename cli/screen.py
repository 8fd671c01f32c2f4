"""Draws what is watched, for a terminal of any size: a header, the peers, trainings, and what happened."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pml.peer.answers import PeerRow

from .peers import SCORES
from .show import COLOURS, number, plain
from .watching import Training, View, moved

BLOCKS = "▁▂▃▄▅▆▇█"
HEADS = ("peer", "status", "age", "rows", "model", "replicas", "epoch", "score", "load", "last answer")
TEXTS = ("peer", "status", "model", "last answer")
"""Columns that stand to the left."""
DROPPED = ("replicas", "model", "load", "last answer", "age", "epoch", "rows")
"""Columns that a narrow terminal goes without, in this order."""
NAME = 24
"""Most characters of a name."""
LEAST = 3
"""Lines that are left for what happened."""
COLOUR_OF = {
    "drift": "red",
    "died": "red",
    "training-failed": "red",
    "suspected": "yellow",
    "lost": "yellow",
    "answer": "yellow",
}
"""Of a line of what happened; the rest is as the terminal writes."""


def screen(view: View, width: int, height: int | None, elapsed: float = 0.0) -> RenderableType:
    """All that is known, `elapsed` seconds after the last event; `height` None is as long as it takes."""
    now = view.now + elapsed
    head = _header(view, width)
    trainings = [_training(training, now, width) for training in view.trainings.values()]
    rows = sorted(view.rows.values(), key=lambda row: (row["name"], row["id"]))
    room = len(rows) if height is None else max(1, height - len(head) - 3 - len(trainings) - LEAST - 1)
    shown = rows if len(rows) <= room else sorted(rows, key=_calm)[: room - 1]
    more = [Text(f"… and {len(rows) - len(shown)} more", "dim")] if len(rows) > len(shown) else []
    used = len(head) + 3 + len(shown) + len(more) + len(trainings) + 1
    lines = list(view.happened)[-(LEAST * 4 if height is None else max(LEAST, height - used)) :]
    happened = [_line(f"{_clock(line.at)}  {line.words}", COLOUR_OF.get(line.kind, "")) for line in lines]
    gap = [Text("")] if trainings or happened else []
    return Group(*head, _peers(view, shown, now, width), *more, *trainings, *gap, *happened)


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """The values as blocks from `low` to `high`; where these are equal, as middling ones."""
    if high <= low:
        return BLOCKS[3] * len(values)
    last = len(BLOCKS) - 1
    return "".join(BLOCKS[max(0, min(last, round((value - low) / (high - low) * last)))] for value in values)


def _header(view: View, width: int) -> list[Text]:
    alive = sum(row["status"] == "alive" for row in view.rows.values())
    by = view.rows[view.asked]["name"] if view.asked in view.rows else ""
    title = _line(f"cluster {view.cluster}: {alive} of {len(view.rows)} peers alive, seen by {by} at {view.address}")
    title.stylize("bold")
    if view.trouble:
        title = _line(view.trouble, "red")
    room = max(8, min(60, width - 44))
    return [
        title,
        _line("votes   " + (_votes(view, room) or "no question yet")),
        _line("score   " + (_score(view, room) or "none yet; p2pml evaluate asks for one")),
        _line("gossip  " + _gossip(view)),
        *_alerts(view),
    ]


def _alerts(view: View) -> list[Text]:
    """A line for each alert that stands; of many, how many more."""
    alerts = sorted(view.alerts.values(), key=lambda alert: (alert.name, alert.peer))
    lines = [_line(f"drift   {alert.name}: {moved(alert)}", "red") for alert in alerts[:LEAST]]
    more = [_line(f"drift   … and {len(alerts) - LEAST} more", "red")] if len(alerts) > LEAST else []
    return lines + more


def _votes(view: View, room: int) -> str:
    answers = list(view.answers)[-room:]
    if not answers:
        return ""
    last = answers[-1]
    blocks = sparkline([answer.cast / max(1, answer.expected) for answer in answers], 0, 1)
    return f"{blocks} {last.cast} of {last.expected} in {_seconds(last.took)}"


def _score(view: View, room: int) -> str:
    if not view.scores:
        return ""
    last = view.scores[-1]
    epochs = {score.epoch: score.value for score in view.scores if score.metric == last.metric}
    values = [epochs[epoch] for epoch in sorted(epochs)][-room:]
    return f"{sparkline(values, min(values), max(values))} {last.metric} {last.value:.4f} in epoch {last.epoch}"


def _gossip(view: View) -> str:
    if not view.traffic:
        return "–"
    (then, before), (now, last) = view.traffic[0], view.traffic[-1]
    if now <= then:
        return f"{_bytes(last.bytes_in)} in, {_bytes(last.bytes_out)} out"
    rates = [
        (total - earlier) / (now - then)
        for total, earlier in ((last.bytes_in, before.bytes_in), (last.bytes_out, before.bytes_out))
    ]
    return f"{_bytes(rates[0])}/s in, {_bytes(rates[1])}/s out"


def _peers(view: View, rows: Sequence[PeerRow], now: float, width: int) -> Table:
    score = next((name for name in SCORES if any(name in _metrics(row) for row in view.rows.values())), "score")
    cells = [_cells(view, row, score, now) for row in rows]
    heads = list(HEADS)
    for name in (None, *DROPPED):
        if name is not None:
            heads.remove(name)
        if (
            sum(max(cell_len(text) for text in [head, *(row[head] for row in cells)]) + 2 for head in heads) - 2
            <= width
        ):
            break
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for head in heads:
        shown = score if head == "score" else head
        drawn.add_column(shown, justify="left" if head in TEXTS else "right", no_wrap=True, overflow="ellipsis")
    for row in cells:
        colour = COLOURS.get(row["status"].partition(",")[0], "")
        drawn.add_row(*(Text(row[head], colour if head == "status" else "") for head in heads))
    return drawn


def _cells(view: View, row: PeerRow, score: str, now: float) -> dict[str, str]:
    model, pulse = row.get("model") or {}, view.pulses.get(row["id"])
    state, epoch, value = model.get("state", "no model"), model.get("epoch"), _metrics(row).get(score)
    gone = row["status"] in ("dead", "left")
    name = plain(row["name"])
    answer = pulse.answer if pulse else None
    return {
        "peer": (name if len(name) <= NAME else name[: NAME - 1] + "…") + (" *" if row["id"] == view.asked else ""),
        "status": row["status"] if gone or state == "ready" else f"{row['status']}, {plain(state)}",
        "age": _ago(now - pulse.started) if pulse and not gone else "–",
        "rows": number(model.get("rows")),
        "model": plain(model.get("name") or "–"),
        "replicas": number(len(held) if (held := row.get("held_by")) is not None else None),
        "epoch": number(epoch.get("counter") if isinstance(epoch, dict) else None),
        "score": f"{value:.4f}" if isinstance(value, float) else "–",
        "load": f"{pulse.load:,.3g} rows/s" if pulse and not gone else "–",
        "last answer": f"{answer.cast}/{answer.expected}, {_ago(now - answer.at)} ago" if answer else "–",
    }


def _training(training: Training, now: float, width: int) -> Text:
    elapsed, expected = max(0.0, now - training.began), training.expected
    if not expected:
        said = f"{elapsed:.0f} s so far"
    elif elapsed > expected:
        said = f"{elapsed:.0f} s, longer than the {expected:.0f} s of last time"
    else:
        room = max(5, min(30, width - 50))
        done = int(room * elapsed / expected)
        said = f"{'█' * done}{'░' * (room - done)} about {expected - elapsed:.0f} s to go"
    return _line(f"{training.name} trains {training.model}: {said}", "cyan")


def _metrics(row: PeerRow) -> dict[str, object]:
    metrics = (row.get("model") or {}).get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _calm(row: PeerRow) -> bool:
    """Whether nothing is to be said of a peer: those are left out first."""
    return row["status"] == "alive" and (row.get("model") or {}).get("state") == "ready"


def _line(text: str, style: str = "") -> Text:
    return Text(plain(text), style, no_wrap=True, overflow="ellipsis")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _seconds(took: float) -> str:
    return f"{took * 1000:.0f} ms" if took < 1 else f"{took:.1f} s"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
