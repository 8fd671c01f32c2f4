"""`p2pml watch`: the whole cluster live, from any peer."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import click

from p2pml.errors import NoVotes, PeerUnreachable, RemoteError

from .options import examples, option
from .show import console, json_line, plain
from .where import Contact, Where, where_options

if TYPE_CHECKING:
    from p2pml.peer.answers import Peers
    from p2pml.peer.client import PeerClient

    from .watching import View

Event = dict[str, Any]
Heard = Callable[[str, Event], None]
"""Takes an event and the address of the peer that told it."""

AGAIN = 1.0
"""Seconds until peers are looked for again when none is heard; also between two drawings when nothing happens."""
AT_MOST = 0.1
"""Seconds between two drawings, however much happens."""
TOLD_AGAIN = 0.2
"""Seconds after which what goes on after a Ctrl-C is told to end once more."""


@click.command(
    epilog=examples(
        "p2pml watch",
        "p2pml watch --once",
        "p2pml watch --json --once | jq '.peers[].status'",
        "p2pml watch --json | jq 'select(.kind == \"died\")'",
    )
)
@where_options
@option("--once", is_flag=True, help="Show the state once and end.")
@option(
    "--json", "as_json", is_flag=True, help="Print each event as JSON; with --once, what `p2pml peers --json` does."
)
def watch(where: Where, once: bool, as_json: bool) -> None:
    """Watch the whole cluster live, from any peer.

    Its own peer is marked with a star; when that one dies, another takes over. Where standard output is not a
    terminal, what happens is printed line by line. Ctrl-C ends it.
    """
    if once and as_json:
        json_line(asyncio.run(_peers(where)))
    elif once:
        asyncio.run(_once(where))
    else:
        watching = _json if as_json else _live if _is_terminal() else _lines
        # It has no end of its own: to interrupt it is no failure.
        with suppress(KeyboardInterrupt):
            asyncio.run(_until_interrupted(watching(where)))


async def _until_interrupted(watching: Coroutine[Any, Any, None]) -> None:
    """Watch until Ctrl-C, which is told again until it is heard: once, it may come together with news and be lost."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
    task, waiting = loop.create_task(watching), loop.create_task(interrupted.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=TOLD_AGAIN)
    finally:
        waiting.cancel()
    if not task.cancelled():
        task.result()


async def _peers(where: Where) -> Peers:
    async with Contact(where) as contact:
        return await contact.ask(lambda peer: peer.peers())


async def _once(where: Where) -> None:
    from .screen import screen
    from .watching import View

    async def first(client: PeerClient) -> View:
        view = View()
        view.address = str(client)
        async with aclosing(client.events()) as events:
            view.fold(await anext(events))
        return view

    async with Contact(where) as contact:
        view = await contact.ask(first)
    terminal = console(sys.stdout)
    terminal.print(screen(view, terminal.width, None))


async def _json(where: Where) -> None:
    def show(address: str, event: Event) -> None:
        print(json.dumps(event, ensure_ascii=False), flush=True)

    await _follow(where, show, lambda why: None)


async def _lines(where: Where) -> None:
    from .watching import View

    view = View()

    def show(address: str, event: Event) -> None:
        if event["kind"] == "state":
            alive = sum(row["status"] == "alive" for row in event["peers"]["peers"])
            _say(time.time(), f"seen by the peer at {address}: {alive} of {len(event['peers']['peers'])} peers alive")
        view.address = address
        view.fold(event)
        while view.happened:
            line = view.happened.popleft()
            _say(line.at, line.words)

    await _follow(where, show, lambda why: _say(time.time(), why))


def _say(at: float, words: str) -> None:
    print(time.strftime("%H:%M:%S", time.localtime(at)), plain(words), flush=True)


async def _live(where: Where) -> None:
    from rich.live import Live

    from .watching import View

    view, news = View(), asyncio.Event()
    view.trouble = f"looking for a peer of cluster {where.cluster} …"

    def show(address: str, event: Event) -> None:
        if view.address not in ("", address):
            view.say("followed", f"{view.address} is not heard any more; {address} tells from now on")
        view.address = address
        view.fold(event)
        news.set()

    def trouble(why: str) -> None:
        view.trouble = why
        news.set()

    terminal = console(sys.stdout)
    with Live(console=terminal, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        drawing = asyncio.create_task(_draw(view, news, live))
        try:
            await _follow(where, show, trouble)
        finally:
            drawing.cancel()


async def _draw(view: View, news: asyncio.Event, live: Any) -> None:
    from .screen import screen

    loop = asyncio.get_running_loop()
    heard = loop.time()
    last = view.now
    while True:
        if view.now != last:
            last, heard = view.now, loop.time()
        width, height = live.console.size
        live.update(screen(view, width, height, loop.time() - heard), refresh=True)
        await asyncio.sleep(AT_MOST)
        news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN):
                await news.wait()


async def _follow(where: Where, heard: Heard, trouble: Callable[[str], None]) -> None:
    """Pass every event on, from one peer after the other; raises where no peer is found at the start."""
    begun = False

    async def listen(client: PeerClient) -> None:
        nonlocal begun
        async with aclosing(client.events()) as events:
            async for event in events:
                begun = True
                heard(str(client), event)
                row = event.get("row")
                if isinstance(row, dict) and row.get("status") == "alive":
                    contact.learn(str(row.get("address")))
        raise PeerUnreachable(f"{client} left.")

    async with Contact(where) as contact:
        while True:
            try:
                await contact.ask(listen)
            except (RemoteError, NoVotes) as error:
                if not begun:
                    raise
                trouble(str(error))
                await asyncio.sleep(AGAIN)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and not console(sys.stdout).is_dumb_terminal
