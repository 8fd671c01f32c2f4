"""The shapes of what a peer answers over HTTP, as a caller reads them."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Label = str | int | float | bool
"""A class or a value as JSON has it."""


class Missing(TypedDict):
    """A peer whose vote was expected and did not come."""

    peer: str
    name: str
    reason: str


class StoodIn(TypedDict):
    """A model whose vote was cast from a replica: whose model it is, and the name of the peer that holds it."""

    peer: str
    name: str
    by: str


class Votes(TypedDict):
    """How many votes stand behind an answer, of how many models; `replicas` are those cast by others than the owner."""

    cast: int
    expected: int
    missing: list[Missing]
    replicas: NotRequired[list[StoodIn]]


class CommonShare(TypedDict):
    """The share of the common vote in an answer, and of how many peers' rows, and of how many rows, it is."""

    share: float
    peers: int
    rows: int


class Predicted(TypedDict):
    """The answer of `POST /v1/predict`; `probabilities` is a row for each, ordered as `classes`.

    `combine` is the rule that was asked for, `combined` the one that was used, `because` why it is another: `auto`
    becomes `density` or `mean`, and where there are no densities yet, `density` becomes `mean`. `common` is there where
    the common vote has a share, and `like`, the name of a peer, where the rows look like its own. On request and for
    each row: `spread`, `strongest` and `novelty` (see `Certainty`; None where there are no densities), and `intervals`,
    low and high, None where there is no bound, or `sets` of classes.
    """

    predictions: list[Label]
    classes: NotRequired[list[Label] | None]
    probabilities: NotRequired[list[list[float]] | None]
    spread: NotRequired[list[float]]
    strongest: NotRequired[list[float]]
    novelty: NotRequired[list[float] | None]
    intervals: NotRequired[list[list[float | None]]]
    sets: NotRequired[list[list[Label]]]
    combine: str
    combined: NotRequired[str]
    because: NotRequired[str | None]
    common: NotRequired[CommonShare]
    like: NotRequired[str]
    votes: Votes
    took: float


class ConfusionMatrix(TypedDict):
    """Rows are true classes, columns are predicted ones."""

    classes: list[Label]
    counts: list[list[int]]


class Evaluated(TypedDict):
    """The answer of `POST /v1/evaluate`; `statistics` comes on request and adds up over blocks of rows."""

    task: str
    rows: int
    combine: str
    combined: NotRequired[str]
    because: NotRequired[str | None]
    common: NotRequired[CommonShare]
    metrics: dict[str, float | None]
    confusion_matrix: NotRequired[ConfusionMatrix | None]
    votes: Votes
    took: float
    statistics: NotRequired[dict[str, Any] | None]
    comparison: NotRequired[Compared | None]


class ComparedScore(TypedDict):
    """How a rule, or a peer alone (then `rule` is None), does on `rows` rows: by metric its value, and the ends of its
    interval of 95 %."""

    rule: str | None
    peer: str | None
    name: str
    rows: int
    scores: dict[str, list[float | None]]


class ComparedPart(TypedDict):
    """The scores on one peer's held-out rows; `residuals` are quantiles of those of the rule auto, at 5, 25, 50, 75 and
    95 %, in regression."""

    peer: str
    name: str
    scores: list[ComparedScore]
    residuals: list[float] | None


class Curve(TypedDict):
    """Of one class against the rest: the points of its receiver operating characteristic, (false, true) positive rates;
    and by tenths of its probability (mean probability, share of rows of the class, rows)."""

    label: Label
    roc: list[list[float]]
    calibration: list[list[float]]


class Compared(TypedDict):
    """All rules and each peer alone, on all held-out rows and part by part; for classification with `curves`."""

    pooled: list[ComparedScore]
    parts: list[ComparedPart]
    curves: NotRequired[list[Curve]]


class DriftSide(TypedDict):
    """A column among some rows: the median of numbers, the share of the level that changed most, and the share of rows
    without a value."""

    median: float | None
    share: float | None
    missing: float


class DriftColumn(TypedDict):
    """How far a column of the asked rows is from that of the known ones: `distance` from 0 to 1, and the probability
    `p` of such a distance without drift, corrected for the number of columns."""

    column: str
    kind: str
    moved: bool
    distance: float
    p: float
    level: str | None
    asked: DriftSide
    known: DriftSide


class DriftPeer(TypedDict):
    """A peer: how many rows it was lately asked about, and how much of the asked rows are like its own."""

    id: str
    name: str
    rows: int
    share: float | None


class DriftAlert(TypedDict):
    """An alert that stands: who raised it, `since` when (s since 1970), and which columns moved, `more` of them beside
    those that are named; `novel` where such rows are new to all peers."""

    peer: str
    name: str
    since: float
    columns: list[str]
    more: int
    rows: int
    novel: bool


class DriftReport(TypedDict):
    """The answer of `GET /v1/drift`: `rows` were lately asked about, which are worth `different` ones that each come
    once."""

    rows: int
    different: float
    columns: list[DriftColumn]
    peers: list[DriftPeer]
    alerts: list[DriftAlert]
    missing: list[Missing]
    took: float


class Epoch(TypedDict):
    """When a fit was asked for, and of whom."""

    counter: int
    peer: str


class FittedPeer(TypedDict):
    """What became of one peer in a fit: trained, failed, missing, or only started."""

    id: str
    name: str
    status: str
    reason: NotRequired[str | None]
    rows: NotRequired[int | None]
    took: NotRequired[float | None]
    metrics: NotRequired[dict[str, float | None] | None]


class Fitted(TypedDict):
    """The answer of `POST /v1/fit`."""

    epoch: Epoch
    peers: list[FittedPeer]
    took: float


class PeerRow(TypedDict):
    """One peer as the asked one sees it; `model` is what it says of its model, None before it has one; `held_by` names
    the peers that hold a replica of it."""

    id: str
    name: str
    address: str
    status: str
    generation: int
    model: NotRequired[dict[str, Any] | None]
    held_by: NotRequired[list[str]]


class Peers(TypedDict):
    """The answer of `GET /v1/peers`."""

    cluster: str
    asked: str
    peers: list[PeerRow]


class Ballot(TypedDict):
    """The answer of `POST /v1/peer/vote`: one peer's own vote, and how many rows its model was trained on."""

    vote: dict[str, object]
    rows: int
    model: str
