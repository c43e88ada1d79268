"""Who a result is: the same source, model and parameters give the same UIDs and bytes."""

import hashlib
import json

import numpy as np
from pydicom.uid import UID

from service import __version__
from service.inference.postprocess import Rules
from service.volume import Scan


def fingerprint(scan: Scan, model_sha256: str, provider: str, rules: Rules) -> str:
    """SHA-256 over all that decides a result: source, model, provider, rules and this software."""
    digest = hashlib.sha256()
    digest.update(json.dumps(sorted(scan.source.sop_instance_uids)).encode())
    for plane in np.asarray(scan.volume.array):
        digest.update(np.ascontiguousarray(plane).data)
    digest.update(scan.volume.affine.tobytes())
    if scan.irregular is not None:
        digest.update(scan.irregular.positions_mm.tobytes())
    digest.update(f"{model_sha256} {provider} {rules} {__version__}".encode())
    return digest.hexdigest()


def derived_uid(fingerprint: str, purpose: str) -> UID:
    """A UID under 2.25 (PS3.5 B.2) of 128 bits drawn from fingerprint and purpose."""
    digest = hashlib.sha256(f"{fingerprint} {purpose}".encode()).digest()
    # Version and variant bits of a random UUID, as ISO/IEC 9834-8 asks of a UID made from one.
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | (0x4 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UID(f"2.25.{value}")
