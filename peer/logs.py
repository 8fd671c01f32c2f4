"""Structured logs on standard error: coloured words for a terminal, a line of JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog


def set_up(log_format: str) -> None:
    """Send every log line to standard error as `console` or `json`; libraries speak up from warnings on."""
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if log_format == "json" else "%H:%M:%S", utc=log_format == "json"),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_without_record, renderer], foreign_pre_chain=shared)
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Garbage on the port is answered with a 400; what garbage it was is nobody's news.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class Unfailing:
    """A stream whose full disk or closed pipe costs the words that it does not take, and not the peer that speaks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As a stream; 0 where it takes nothing."""
        try:
            return self._stream.write(text)
        except OSError:
            # There is no other place where this could be said.
            return 0

    def flush(self) -> None:
        """As a stream."""
        try:
            self._stream.flush()
        except OSError:
            return


def _without_record(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
