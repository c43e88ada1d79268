"""Logs as JSON lines that hold no patient data, whatever a file holds.

Libraries that read files log and warn with the files' own text, names of patients among it. So only
this service and its server are heard, an exception is logged by its place and never by its message,
and a field that is not on the list below is dropped.
"""

import logging
import sys
import threading
import traceback
import warnings
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_HEARD = ("service", "uvicorn")

FIELDS = frozenset({
    "timestamp", "level", "logger", "event",
    "request_id", "trace_id", "method", "route", "status", "code", "seconds", "bytes",
    "caller", "key", "address", "node", "sop_class", "instances", "status_code", "free_bytes",
    "job_id", "stage", "stages", "place", "model", "version", "provider",
})  # fmt: skip
"""All that a line may hold; each is a number, a code, or a text of ours."""


def configure() -> None:
    """Set up the process's logs; called once, at the entry point."""
    write_json(sys.stderr)
    warnings.simplefilter("ignore")
    threading.excepthook = _thread_failed


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """A library's thread that ends in an exception, whose message may be anything, by its place."""
    if failure.exc_value is not None:
        logger = structlog.get_logger(__name__)
        logger.error("thread failed", place=place_of(failure.exc_value))


def write_json(stream: TextIO) -> None:
    """Write one JSON object a line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _message_only],
            processors=[_listed_fields, structlog.processors.JSONRenderer()],
        )
    )
    # A logger with a level of its own passes the root's: pydicom's is one of those.
    handler.addFilter(lambda record: record.name.split(".")[0] in _HEARD)
    logging.basicConfig(level=logging.CRITICAL, handlers=[handler], force=True)
    for name in _HEARD:
        logging.getLogger(name).setLevel(logging.INFO)


def place_of(error: BaseException) -> str:
    """The exception's class and the frames that it passed, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    listed = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[::-1])
    return f"{type(error).__name__} in {listed}"


def _message_only(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A server's own record without its exception, whose message may be anything."""
    record = event["_record"]
    if record.exc_info and record.exc_info[1] is not None:
        event["place"] = place_of(record.exc_info[1])
    record.exc_info = record.exc_text = None
    return event


def _listed_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if name in FIELDS and value is not None}
