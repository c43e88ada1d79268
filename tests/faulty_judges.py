"""Judges that go wrong as a native decoder can; picklable, for the fuzzer's processes."""

import os
import signal
import time

from reliability.case import Case
from reliability.judge import Verdict


def go_wrong(case: Case) -> Verdict:
    """Do what the case's only file says."""
    match case.files[0]:
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"spin":
            while True:
                pass
        case b"sleep":
            time.sleep(60)
        case b"hoard":
            return Verdict(str(len(b"\1" * 200_000_000)))
        case _:
            return Verdict("answered")
    raise AssertionError
