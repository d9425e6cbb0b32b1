"""Records that are pushed: accepted once they are on the disk, then read as those of any other source.

The one partition has the name of the source. Its positions count the bytes of its spool for good and carry the spool's
identity. What was accepted stays in the spool, as it came and closed to others, until what was made of it is stored.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic

from monitor.decoding import Format
from monitor.model import Position, Raw, Refused, Reject
from monitor.settings import Settings
from monitor.sources.rejects import oversized
from monitor.sources.spool import OVERHEAD, Message, Spool


class PushSettings(Settings):
    """Records that others bring."""

    kind: Literal["push"]
    spool: Path
    """Folder that holds what was accepted until it is counted; made where it is not there."""
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "push"
    """Of the partition."""
    format: Format = "native"
    max_record_bytes: pydantic.PositiveInt = 8 << 20
    megabytes: pydantic.PositiveInt = 256
    """What the spool may hold; what would pass it is not accepted."""


class Push:
    """The `push` source (`monitor.contracts.LiveSource`).

    `wait` is the seconds that a poll waits for messages where there are none. Raises ValueError where the spool cannot
    be used.
    """

    def __init__(self, settings: PushSettings, *, wait: float = 0.1, refresh: float = 0.0) -> None:  # noqa: ARG002  its partition is there
        self._settings, self._wait = settings, wait
        self._at_most = settings.megabytes << 20
        self._spool = Spool(settings.spool, self._at_most)
        self._came = threading.Event()
        self._position = Position(self._spool.begin, identity=self._spool.identity)
        self._guard = threading.Lock()
        self._behind: int | None = None
        """Messages that no poll gave yet; None until all that was there at the start was given."""
        self._notices: list[str] = []
        if self._spool.cut:
            said = f"{self._spool.cut:,} bytes of messages that had not been accepted were cut off the spool"
            self._notices.append(f"{settings.name}: {said}")

    def accept(self, payloads: Sequence[bytes]) -> None:
        """Take messages, all or none, and return when they are on the disk. Any thread may call it.

        Raises ValueError where there are none, or one of more than `max_record_bytes`, or more than the spool could
        ever hold; SpoolFullError where it has no room now; OSError where the disk does not take them. What is no
        record is taken, and refused when it is read.
        """
        if not payloads:
            raise ValueError("there are no messages")
        longest = max(map(len, payloads))
        if longest > self._settings.max_record_bytes:
            number = next(number for number, payload in enumerate(payloads, 1) if len(payload) == longest)
            limit = self._settings.max_record_bytes
            raise ValueError(f"message {number} has {longest:,} bytes, more than max_record_bytes ({limit:,})")
        total = sum(map(len, payloads)) + OVERHEAD * len(payloads)
        if total > self._at_most:
            raise ValueError(f"the messages have {total:,} bytes, more than the spool holds ({self._at_most:,})")
        with self._guard:
            self._spool.append(payloads, time.time_ns() // 1_000_000)
            if self._behind is not None:
                self._behind += len(payloads)
        self._came.set()

    # ---- what a source promises -------------------------------------------------------------------------------------

    def partitions(self) -> Mapping[str, bool]:
        return {self._settings.name: False}

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from `positions`. Where the spool is another one than before, all that it holds is read, and said."""
        position = positions.get(self._settings.name)
        if position is None:
            return
        here = f"the stored position {position.offset} is"
        if position.identity != self._spool.identity:
            self._notices.append(f"{self._settings.name}: {here} of another spool; all that this one holds is read")
        elif position.offset > self._spool.end:
            self._notices.append(f"{self._settings.name}: {here} behind the end of its spool; what comes now is read")
            self._spool.forget(self._spool.end)  # which was counted
        elif position.offset < self._spool.begin:
            self._notices.append(f"{self._settings.name}: {here} before what its spool still holds; that is read")
        else:
            self._position = position
            return
        if self._spool.begin < position.offset:
            self._spool.move(position.offset)
        self._position = Position(self._spool.begin, identity=self._spool.identity)

    def peek(self, partition: str, limit: int) -> Raw:
        return self._raw(partition, self._spool.read(self._position.offset, limit))

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        longest = self._wait if wait else 0.0
        if self._settings.name not in wanted:
            self._came.wait(longest)
            return []
        self._came.clear()
        found = self._spool.read(self._position.offset, limit)
        if not found and self._came.wait(longest):
            found = self._spool.read(self._position.offset, limit)
        if not found:
            return []
        raw = self._raw(self._settings.name, found)
        with self._guard:
            self._position = raw.end
            if self._position.offset == self._spool.end:
                self._behind = 0
            elif self._behind is not None:
                self._behind -= len(found)
        return [raw]

    def close(self) -> None:
        """Let go of the spool. Idempotent; nothing is accepted any more."""
        self._spool.close()

    # ---- what a live source promises --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"push {self._settings.name}"

    @property
    def trouble(self) -> str:
        """None that would not be raised where it is met."""
        return ""

    def drained(self) -> Collection[str]:
        return {self._settings.name} if self._position.offset == self._spool.end else ()

    def lag(self) -> Mapping[str, int]:
        """Messages behind what poll has given, by partition, as far as known."""
        return {} if self._behind is None else {self._settings.name: self._behind}

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        """It has no place for them."""
        return [reject for reject, _ in refused]

    def committed(self, positions: Mapping[str, Position]) -> None:
        """Delete what is stored; what cannot be deleted now is when the next commit tells."""
        position = positions.get(self._settings.name)
        if position is not None and position.identity == self._spool.identity:
            with suppress(OSError):
                self._spool.forget(position.offset)

    def notices(self) -> list[str]:
        said, self._notices = self._notices, []
        return said

    # ---- messages ---------------------------------------------------------------------------------------------------

    def _raw(self, name: str, found: Iterable[Message]) -> Raw:
        found = list(found)
        good = [message for message in found if not message.damaged and not self._too_long(message)]
        end = Position(found[-1].end, identity=self._spool.identity) if found else self._position
        rejects = [self._reject(message) for message in found if message.damaged or self._too_long(message)]
        arrived = np.array([message.arrived for message in good], np.int64)
        payloads, offsets = [message.content for message in good], [message.at for message in good]
        return Raw(name, payloads, offsets, [], end, rejects, arrived)

    def _too_long(self, message: Message) -> bool:
        """Whether it is longer than what may be accepted since it was."""
        return len(message.content) > self._settings.max_record_bytes

    def _reject(self, message: Message) -> Reject:
        name, size = self._settings.name, len(message.content)
        digest = hashlib.sha256(message.content).hexdigest()
        if not message.damaged:
            return oversized(name, message.at, size, digest, at_most=self._settings.max_record_bytes)
        detail = f"the spool is damaged; nothing up to position {message.end} can be read"
        return Reject("unreadable", name, message.at, size, digest, None, detail)
