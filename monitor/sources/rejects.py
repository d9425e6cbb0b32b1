"""What every source refuses in the same words. Pure."""

from __future__ import annotations

from monitor.model import Reject


def oversized(
    partition: str, position: int, size: int, sha256: str, *, at_most: int, line: int | None = None
) -> Reject:
    """A message of more than `at_most` bytes.

    >>> oversized("a.jsonl", 0, 300, "5e", at_most=200).detail
    '300 bytes, more than max_record_bytes (200)'
    """
    detail = f"{size} bytes, more than max_record_bytes ({at_most})"
    return Reject("oversized", partition, position, size, sha256, line, detail)
