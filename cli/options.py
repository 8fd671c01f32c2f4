"""What the commands' options have in common: an environment variable each, and addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pml.peer.words import plain

if TYPE_CHECKING:
    from p2pml.peer.answers import Evaluated, Predicted

    AddressBase = click.ParamType[tuple[str, int]]
else:
    # It is generic in newer releases only.
    AddressBase = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])


class AddressType(AddressBase):
    """HOST:PORT; several in one environment variable stand apart by spaces or commas."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        match = re.fullmatch(r"([^\s:/]+):(\d{1,5})", value.strip())
        if match is None:
            self.fail(f"{value!r} is not HOST:PORT, such as 192.168.1.20:7733", param, ctx)
        host, port = match[1], int(match[2])
        if not 1 <= port <= 65535:
            self.fail(f"{value!r} has port {port}; ports are 1 to 65535", param, ctx)
        return host, port

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [part for part in re.split(r"[\s,]+", rv) if part]


ADDRESS = AddressType()


def option(flag: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    """A click option that can also be set as P2PML_<FLAG> in the environment."""
    variable = "P2PML_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, envvar=variable, **settings)


def json_option(command: Command) -> Command:
    """`--json`, for the commands that can print the peer's answer as it is."""
    return option("--json", "as_json", is_flag=True, help="Print the peer's answer as JSON.")(command)


def combine_option(command: Command) -> Command:
    """`--combine`, the rule that makes one answer of the votes."""
    return option(
        "--combine",
        type=click.Choice(["auto", "density", "local", "mean", "median", "stacked", "trimmed-mean", "weighted"]),
        help="How votes become one answer: density weighs each vote by how well its peer knows such rows, weighted "
        "by rows trained on; auto is density or mean, whichever does better on held-out rows, with a common vote that "
        "all rows have made as far as it helps there; local is auto for rows like those of the peer that is asked "
        "(--peer), whose own vote then weighs more; stacked is what fits held-out rows best. [default: auto]",
    )(command)


def ruled(answer: Predicted | Evaluated) -> str:
    """By which rule an answer was combined, whose rows it was taken to be of, and the share of the common vote."""
    rule, like, common = answer.get("combined", answer["combine"]), answer.get("like"), answer.get("common")
    known = f", as for rows of {plain(str(like))}" if like else ""
    return f"{rule}{known}" + (f", with {common['share']:.0%} for the common vote" if common else "")


def how(used: dict[str, str | None]) -> str:
    """How votes were combined, and why not otherwise: the end of a note; `used` has the reason by rule."""
    return ", ".join(f"combined by {rule}" + (f", since {why}" if why else "") for rule, why in used.items())


def examples(*lines: str) -> str:
    """The end of a `--help`: examples that can be pasted."""
    # \b keeps click from joining the lines into a paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
