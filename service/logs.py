"""Logs that hold no patient data, whatever a file holds.

Libraries that read files log and warn with the files' own text, names of patients among it. So
only this service and its server are heard, and an exception is logged by its place, never by its
message.
"""

import logging
import traceback
import warnings

_HEARD = ("service", "uvicorn")


def configure() -> None:
    """Set up the process's logs; called once, at the entry point."""
    logging.basicConfig(level=logging.CRITICAL, format="%(levelname)s %(name)s: %(message)s")
    for name in _HEARD:
        logging.getLogger(name).setLevel(logging.INFO)
    warnings.simplefilter("ignore")


def place_of(error: BaseException) -> str:
    """The exception's class and the frames that it passed, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    listed = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[::-1])
    return f"{type(error).__name__} in {listed}"
