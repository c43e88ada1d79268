from enum import StrEnum


class ReceiptStatus(StrEnum):
    ALREADY_STORED = "already_stored"
    FAILED = "failed"
    REFUSED = "refused"
    STORED = "stored"

    def __str__(self) -> str:
        return str(self.value)
