"""Laws of how a temperature is chosen, and of answers weighed by density."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pml.ensemble.calibration import TEMPERATURES, Calibration
from p2pml.ensemble.combine import combine
from p2pml.ensemble.home import LEAST, Home, Site, Told, recognised, sites_of
from p2pml.ensemble.knowledge import (
    MOST_LOOKS,
    NO_GAIN,
    NO_ROWS,
    NO_SPACE,
    NOT_COMPARED,
    Decision,
    Knowledge,
    decide,
    errors_known,
    looks_told,
    sites_known,
)
from p2pml.ensemble.sketch import Sketch
from p2pml.ensemble.vote import Vote
from p2pml.errors import BadInput, RemoteError

Cast = tuple[str, Vote, int]


def world(rows: int, seed: int, knowing: bool) -> tuple[np.ndarray[Any, Any], list[Cast], dict[str, Any]]:
    """Two peers that each are right on one half of the line; their densities say so, or nothing."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, rows)
    truth = x + rng.normal(0, 0.1, rows)
    votes: list[Cast] = [
        ("a", Vote(None, np.where(x < 0, x, 3.0)), 10),
        ("b", Vote(None, np.where(x < 0, -3.0, x)), 10),
    ]
    if not knowing:
        votes = [(id, Vote(None, x + rng.normal(0, 0.2, rows)), 10) for id in "ab"]
    sign = 4 * x if knowing else rng.normal(0, 2, rows)
    return truth, votes, {"a": -sign, "b": sign}


def tried(truth: np.ndarray[Any, Any], votes: list[Cast], densities: dict[str, Any]) -> Calibration:
    """The sums of both peers: rows are held out by the one that densities favour, in turn where they know nothing."""
    parts = []
    left = densities["a"] > densities["b"] if abs(votes[0][1].values).max() > 2 else np.arange(len(truth)) % 2 == 0
    for me, rows in (("a", left), ("b", ~left)):
        cut = [(id, Vote(None, vote.values[rows]), n) for id, vote, n in votes]
        parts.append(Calibration.of(truth[rows], cut, {id: logs[rows] for id, logs in densities.items()}, me))
    return Calibration.total(parts)


def made(losses: list[float], apart: float, told: float = 0.0, errors: list[float] | None = None) -> Calibration:
    """Sums over 100 rows: the loss at the mean and at temperatures 0.5, 0.7 and 1, and at all others that of 1; any two
    candidates differ by `apart` in square; at 1 densities tell `told` of whose the rows are, and elsewhere nothing."""
    count = len(TEMPERATURES)
    all_losses = tuple(losses + losses[-1:] * (count + 1 - len(losses)))
    products = np.eye(count + 1) * apart / 2
    tells = tuple(told if heat == 1.0 else 0.0 for heat in TEMPERATURES)
    squares = tuple(each * each / 100 + 1e-9 for each in tells)
    all_errors = all_losses if errors is None else tuple(errors + errors[-1:] * (count + 1 - len(errors)))
    upper = tuple(products[np.triu_indices(count + 1)].tolist())
    return Calibration(100, all_losses, all_errors, upper, tells, squares)


def test_where_densities_know_they_decide() -> None:
    """The answer is better than the mean by far, and so is the loss at the temperature that is chosen."""
    truth, votes, densities = world(500, 1, knowing=True)
    heat = tried(truth, votes, densities).temperature()
    assert heat is not None
    new, votes, densities = world(500, 2, knowing=True)
    by_density = np.square(combine(votes, "density", densities, heat).predictions - new).mean()
    by_mean = np.square(combine(votes).predictions - new).mean()
    assert by_density < by_mean / 4


def test_where_densities_know_nothing_the_mean_stays() -> None:
    """Two equal voices are better together than either alone."""
    assert tried(*world(500, 1, knowing=False)).temperature() is None


def test_the_mean_stays_without_rows() -> None:
    """Nothing is known of any temperature then."""
    assert Calibration().temperature() is None


def test_the_temperature_that_tells_whose_rows_are_whose_is_taken() -> None:
    """Also where losses show no clear gain on the mean, as of few rows they seldom do; but not where they are worse."""
    assert made([100.0, 99.0], apart=900.0, told=50.0).temperature() == 1.0
    assert made([100.0, 99.0], apart=900.0, told=0.0).temperature() is None
    assert made([100.0, 101.0], apart=900.0, told=50.0).temperature() is None


def test_losses_speak_where_they_speak_clearly() -> None:
    """A gain that is within two standard errors moves nothing; one beyond it does, from the mean too."""
    assert made([100.0, 50.0, 40.0, 50.0], apart=400.0, told=50.0).temperature() == 1.0
    assert made([100.0, 50.0, 40.0, 50.0], apart=5.0, told=50.0).temperature() == 0.7
    assert made([100.0, 50.0, 40.0, 50.0], apart=50.0).temperature() == 0.7


def test_what_makes_more_errors_than_the_mean_is_not_taken() -> None:
    """However sure it is where it is right."""
    assert made([100.0, 50.0], apart=60.0, told=50.0, errors=[10.0, 11.0]).temperature() is None


def test_sums_over_parts_are_the_sums_over_all_rows() -> None:
    """So every asker chooses alike, and no row needs to travel."""
    truth, votes, densities = world(100, 3, knowing=True)
    truth[3] = np.nan

    def some(rows: slice) -> Calibration:
        cut = [(id, Vote(None, vote.values[rows]), n) for id, vote, n in votes]
        return Calibration.of(truth[rows], cut, {id: logs[rows] for id, logs in densities.items()}, "a")

    whole, halves = some(slice(0, 100)), Calibration.total([some(slice(0, 40)), some(slice(40, 100))])
    assert halves.rows == whole.rows == 99
    for name in ("losses", "errors", "products", "told", "squares"):
        assert getattr(halves, name) == pytest.approx(getattr(whole, name))


def test_a_class_that_nobody_knows_is_missed_in_full() -> None:
    """Brier's score over all classes, also those of the truth alone."""
    votes: list[Cast] = [("a", Vote(("x", "y"), np.array([[0.5, 0.5], [1.0, 0.0]])), 1)]
    found = Calibration.of(np.array(["z", "x"], object), votes, {"a": np.zeros(2)}, "a")
    assert found.losses[0] == pytest.approx(1.5)
    assert found.errors[0] == 1


def test_a_vote_weighs_rows_times_density_to_the_power_of_one_over_temperature() -> None:
    """The weights, written out."""
    votes: list[Cast] = [("a", Vote(None, np.array([0.0])), 1), ("b", Vote(None, np.array([1.0])), 3)]
    densities = {"a": np.log([0.2]), "b": np.log([0.4])}
    share = 3 * 0.4 / (3 * 0.4 + 1 * 0.2)
    assert combine(votes, "density", densities).predictions[0] == pytest.approx(share)
    cool = (3 * 0.4) ** 0.5 / ((3 * 0.4) ** 0.5 + 0.2**0.5)
    assert combine(votes, "density", densities, 2.0).predictions[0] == pytest.approx(cool)
    with pytest.raises(BadInput, match="needs every peer's log-densities"):
        combine(votes, "density", {"a": densities["a"]})


def test_densities_weigh_probabilities_over_the_union_of_classes() -> None:
    """A class known to one peer has that peer's share."""
    votes: list[Cast] = [("a", Vote(("x",), np.ones((2, 1))), 1), ("b", Vote(("y",), np.ones((2, 1))), 1)]
    answer = combine(votes, "density", {"a": np.array([-1e5, 0.0]), "b": np.array([0.0, 0.0])})
    assert answer.probabilities == pytest.approx(np.array([[0.0, 1.0], [0.5, 0.5]]))


def test_a_trimmed_mean_leaves_out_a_quarter_at_each_end() -> None:
    """Of four votes the highest and the lowest, of three none."""
    votes: list[Cast] = [(str(at), Vote(None, np.array([value])), 1) for at, value in enumerate([1.0, 2.0, 3.0, 99.0])]
    assert combine(votes, "trimmed-mean").predictions[0] == pytest.approx(2.5)
    assert combine(votes[:3], "trimmed-mean").predictions[0] == pytest.approx(2.0)


GOOD = tried(*world(9, 1, knowing=True)).to_data()


@pytest.mark.parametrize(
    "data",
    [None, [], [-1, *GOOD[1:]], [True, *GOOD[1:]], [1, [1.0], *GOOD[2:]], [1, [float("nan")] * 11, *GOOD[2:]]],
)
def test_what_cannot_be_a_calibration_is_refused(data: object) -> None:
    """With a RemoteError; what can be is read unchanged."""
    assert Calibration.from_data(GOOD).to_data() == GOOD
    with pytest.raises(RemoteError, match="the calibration that a peer sent"):
        Calibration.from_data(data)


def test_errors_count_only_where_they_are_of_the_very_decision() -> None:
    """Those at another temperature, or while nothing is decided, say nothing of this answer."""
    errors = Sketch.of(np.arange(9.0), 5)
    known = [("one", Knowledge("c" * 32, errors=errors, temperature=1.0)), ("two", Knowledge("c" * 32, errors=errors))]
    assert list(errors_known(known, Decision("a" * 32, 1.0))) == ["one"]
    assert list(errors_known(known, Decision(because=NO_GAIN))) == ["two"]
    assert errors_known([*known, ("three", None)], Decision(because=NO_ROWS)) == {}


def test_peers_decide_alike_and_only_in_one_space() -> None:
    """Whatever is lacking is said; the order of the peers does not matter."""
    sums = tried(*world(200, 1, knowing=True))
    space, other = "a" * 32, "b" * 32

    def knows(of: str | None, calibration: Calibration | None) -> Knowledge:
        return Knowledge("c" * 32, of, calibration)

    good = [("one", knows(space, sums)), ("two", knows(space, sums))]
    assert decide(good) == decide(good[::-1]) == Decision(space, Calibration.total([sums, sums]).temperature())
    assert decide([good[0], ("two", None)]).because == NO_SPACE
    assert decide([good[0], ("two", knows(other, sums))]).because == NO_SPACE
    assert decide([good[0], ("two", knows(space, None))]).because == NOT_COMPARED
    assert decide([("one", knows(space, Calibration()))]).because == NO_ROWS
    unsure = tried(*world(200, 1, knowing=False))
    assert decide([("one", knows(space, unsure))]) == Decision(because=NO_GAIN)


@pytest.mark.parametrize(
    "changed",
    [
        {"moments": "A" * 32},
        {"space": "short"},
        {"space": 3},
        {"calibration": 3},
        {"usual": 3},
        {"errors": [0, b""]},
        {"temperature": 4.2},
    ],
)
def test_what_cannot_be_knowledge_is_refused(changed: dict[str, object]) -> None:
    """With a RemoteError."""
    good = Knowledge("c" * 32, None, None).to_data()
    assert Knowledge.from_data(good) == Knowledge("c" * 32)
    with pytest.raises(RemoteError):
        Knowledge.from_data(good | changed)


def together(truth: Any, votes: list[Cast], densities: dict[str, Any], rows: Any) -> tuple[list[Cast], dict[str, Any]]:
    return [(id, Vote(None, vote.values[rows]), n) for id, vote, n in votes], {
        id: logs[rows] for id, logs in densities.items()
    }


def parted(drawn: tuple[Any, list[Cast], dict[str, Any]], favour: float = 30.0) -> dict[str, Told]:
    """What both peers tell of their halves of these rows."""
    truth, votes, densities = drawn
    told = {}
    left = densities["a"] > densities["b"] if abs(votes[0][1].values).max() > 2 else np.arange(len(truth)) % 2 == 0
    for me, rows in (("a", left), ("b", ~left)):
        cut, logs = together(truth, votes, densities, rows)
        home = Home(truth[rows], cut, logs, me)
        told[me] = Told(f"peer {me}", Calibration.of(truth[rows], cut, logs, me), favour, home.looks(1.0))
    return told


def test_rows_that_are_all_like_one_peer_s_are_recognised_together() -> None:
    """Whoever is asked; a mixture is not, nor are few rows, nor those of a peer that gains nothing or is not known."""
    sites = sites_of(parted(world(200, 1, knowing=True)), 1.0)
    assert {id: (site.name, site.favour) for id, site in sites.items()} == {id: (f"peer {id}", 30.0) for id in "ab"}
    assert all(site.elsewhere < site.mean for site in sites.values())
    new, votes, densities = world(400, 2, knowing=True)
    lefts = np.flatnonzero(densities["a"] > densities["b"])

    def asked(rows: Any, known: dict[str, Site] = sites) -> Any:
        cut, logs = together(new, votes, densities, rows)
        return recognised(list(reversed(cut)), logs, 1.0, known)

    assert asked(lefts) == asked(lefts[::-1]) == asked(lefts[:LEAST]) == ("a", 30.0)
    assert asked(np.setdiff1d(np.arange(400), lefts)) == ("b", 30.0)
    assert [asked(np.arange(400)), asked(lefts[: LEAST - 1]), asked(lefts, {})] == [None] * 3
    assert asked(lefts, {"a": replace(sites["a"], favour=1.0)}) is None


@pytest.mark.parametrize("seed", range(5))
def test_of_parts_that_are_alike_nobody_is_recognised(seed: int) -> None:
    """Else one of them would answer for all."""
    sites = sites_of(parted(world(400, seed, knowing=False)), 1.0)
    _, votes, densities = world(400, seed + 100, knowing=False)
    for rows in (np.arange(400), np.arange(0, 400, 2)):
        assert recognised(*together(None, votes, densities, rows), 1.0, sites) is None


def test_a_site_is_known_once_all_have_told_how_its_rows_look() -> None:
    """In one space and at one temperature; what is told travels as it was, and is bounded."""
    space, decision = "b" * 32, Decision("b" * 32, 1.0)
    ids = {"a": "a" * 32, "b": "b" * 32}
    told = parted(world(200, 1, knowing=True))
    knows = {
        ids[id]: Knowledge(
            "a" * 32,
            space,
            each.calibration,
            temperature=1.0,
            favour=10.0,
            looks=looks_told({ids[other]: look for other, look in each.looks.items()}),
        )
        for id, each in told.items()
    }
    assert [Knowledge.from_data(each.to_data()) for each in knows.values()] == list(knows.values())
    known: list[tuple[str, str, Knowledge | None]] = [(id, id[:3], each) for id, each in knows.items()]
    sites = sites_known(known, decision)
    assert {id: (site.name, site.favour) for id, site in sites.items()} == {id: (id[:3], 10.0) for id in ids.values()}
    assert sites[ids["a"]].elsewhere == pytest.approx(sites_of(told, 1.0)["a"].elsewhere, abs=1e-4)
    assert sites_known([*known, ("c" * 32, "new", None)], decision).keys() == sites.keys()
    assert sites_known(known, Decision(because=NO_GAIN)) == {}
    for other in ({"space": "c" * 32}, {"temperature": 2.0}, {"looks": ()}):
        silent = [*known[:1], (ids["b"], "bob", replace(knows[ids["b"]], **other))]
        assert sites_known(silent, decision) == {}
    few = [(id, name, each and replace(each, calibration=Calibration())) for id, name, each in known]
    assert sites_known(few, decision) == {}
    assert looks_told({f"{at:032x}": 0.0 for at in range(MOST_LOOKS + 1)}) == ()
    for strange in ({"favour": 2.5}, {"looks": b"123"}, {"looks": np.full(2, np.nan).tobytes()}, {"looks": bytes(264)}):
        with pytest.raises(RemoteError, match="not what a peer says"):
            Knowledge.from_data({**knows[ids["a"]].to_data(), **strange})


def test_without_a_truth_rows_look_like_nobody_s() -> None:
    """There is nothing to tell then."""
    _, votes, densities = world(30, 1, knowing=True)
    assert Home(np.full(30, np.nan), votes, densities, "a").looks(1.0) == {}
