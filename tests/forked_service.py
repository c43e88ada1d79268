"""The service in processes of their own, each forked from one that has imported everything.

Importing takes nine tenths of the five seconds that a start takes.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest.mock import patch

from altered_service import main
from conftest import PATIENT

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["altered_service"])


def forked(
    command: Sequence[str], environment: Mapping[str, object], log: Path
) -> ForkServerProcess:
    """Start `python -m service COMMAND`, changed as `altered_service` reads in its environment."""
    # Python 3.11 hands its own path to the process that imports, which does not read it: there
    # nothing would be found, and nothing said.
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    chosen = {name: str(value) for name, value in environment.items()}
    process = _FORKS.Process(target=main, args=(command, chosen, log), name=log.stem)
    process.start()
    return process


def check_log(log: Path) -> None:
    """Fail where a process named the patient."""
    said = log.read_text(errors="replace") if log.exists() else ""
    assert not any(word in said for word in PATIENT), f"{log.stem} names the patient"
