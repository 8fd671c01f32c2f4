"""The entry of `p2pml`: finds the subcommand, and turns what goes wrong into a sentence and a code.

A subcommand's module is imported only when it is invoked, so that `p2pml --help` costs what click costs.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

import p2pml as package
from p2pml.errors import LocalError, NoVotes, P2pmlError

from .options import examples

COMMANDS = {
    "peer": "Start a peer on this machine's rows",
    "peers": "Show who is in the cluster and what each knows",
    "watch": "Watch the whole cluster live",
    "predict": "Predict the rows of FILE",
    "evaluate": "Score the ensemble itself",
    "drift": "Show whether the rows that are asked about have moved",
    "fit": "Have every peer retrain",
    "split": "Cut FILE into N parts to try things with",
    "demo": "See it work: real peers on this machine",
    "simulate": "Break a cluster of peers in virtual time, and see what holds",
    "state": "Look at the folder in which a peer keeps its state",
    "doctor": "Find what stops two machines from meeting",
    "completion": "Print what makes SHELL complete commands and options",
}
"""Each is a module of this package with a command of the same name, whose help begins with these words."""

COMPLETE = "_P2PML_COMPLETE"
"""The variable by which a shell asks for completions; what it is to be asked is what `p2pml completion` prints."""

OK, NOTHING, USAGE = 0, 1, 2
"""Exit codes: it worked; no peer, no vote, or an answer that cannot be read; bad usage or bad input."""

INTERRUPTED = 128 + 2
"""What a shell reports of a program that SIGINT ended."""

CLOSED_PIPE = 128 + 13
"""What a shell reports of a program that SIGPIPE ended, as of any tool in front of `head`."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and short helps, and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__package__}.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "p2pml demo",
        "p2pml peer start --data rows.csv --target price",
        "p2pml predict new.csv > predicted.csv",
    ),
)
@click.version_option(package.__version__, prog_name="p2pml", message="%(prog)s %(version)s")
def p2pml() -> None:
    """One ensemble with no centre: peers train on their own rows and answer as one.

    Every option of every command can also be set in the environment, as P2PML_<OPTION>: P2PML_CLUSTER,
    P2PML_HOST, P2PML_JOIN.
    """


def main() -> None:
    """Run the command line of this process and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Results are CSV and JSON, which are UTF-8 whatever the terminal's language is.
        sys.stdout.reconfigure(encoding="utf-8")
    asked = os.environ.get(COMPLETE)
    code = _complete(asked) if asked else run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # It was said already. The interpreter flushes once more on its way out, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is one sentence on standard error."""
    try:
        # Not click's own main(), which decides otherwise about interrupts, closed pipes and exit codes.
        with p2pml.make_context("p2pml", list(arguments)) as ctx:
            code = p2pml.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "p2pml"
        return _fail(f"{_sentence(error.format_message())} See {where} --help.", USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        return CLOSED_PIPE
    except NoVotes as error:
        return _fail(str(error), NOTHING)
    except LocalError as error:
        return _fail(str(error), USAGE)
    except P2pmlError as error:
        return _fail(str(error), NOTHING)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}.", USAGE)
    return code if isinstance(code, int) else OK


def _complete(asked: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(p2pml, {}, "p2pml", COMPLETE, asked)


def _fail(sentence: str, code: int) -> int:
    click.echo(f"p2pml: {_sentence(sentence)}", err=True)
    return code


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?", "!")) else f"{text}."
