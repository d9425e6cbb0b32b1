"""The loop: poll, decode, score, add to slices, close what the watermark passed, compare, judge, commit, acknowledge.

Nothing here reads a clock but to decide when to commit, which no result depends on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from monitor.contracts import LiveSource, Scorer, Source
from monitor.decoding import Decoder
from monitor.engine import Engine, Step
from monitor.feedback import Joins
from monitor.idleness import Idleness
from monitor.measuring import measure
from monitor.model import (
    Action,
    AlertChange,
    Blob,
    Checkpoint,
    Event,
    Position,
    Raw,
    Reading,
    Records,
    Refused,
    Reject,
    Scored,
    concatenate,
)
from monitor.sampling import redacted, redacted_begin
from monitor.scoring import Score, score
from monitor.settings import format_time
from monitor.store import Store, StoreUnwritableError
from monitor.watermark import FOLLOWERS, Admission, PartitionTime
from monitor.windows import SLICES

BATCH = 4096
"""Messages asked for at a time."""
COMMIT_SECONDS = 2.0
"""Wall-clock time between commits; what is read again after a crash."""
COMMIT_REJECTS = 10_000
"""Rejects that make a commit at once, so that a log of nothing else does not fill the memory."""
COMMIT_REFUSED_BYTES = 64 << 20
"""Bytes of refused messages that make a commit at once, where they wait for one whole."""
RETRY_SECONDS = 1.0
"""Wall-clock time between two tries to set refused messages aside, or to commit."""
EXCERPT = 200
"""Characters of a message that cannot be a record that are kept."""
AHEAD_SLICES = 12
"""A partition more than this many of the coarsest slices ahead of the watermark waits."""


@dataclass(slots=True)
class Pipeline:
    """One run over the partitions of a source, with all its state."""

    source: Source
    make_decoder: Callable[[], Decoder]
    scorers: Sequence[Scorer]
    engine: Engine
    admission: Admission
    store: Store
    on_commit: Callable[[Pipeline], None] = lambda _: None
    """Called after each commit: progress, and what a daemon publishes."""
    on_step: Callable[[Step], None] = lambda _: None
    """Called with every step of event time."""
    on_beat: Callable[[Pipeline], None] = lambda _: None
    """Called with every round of a live source's loop, and with every try where it waits."""
    trouble: str = ""
    """Why nothing can be committed now; '' where it can."""
    joins: Joins = field(init=False)
    positions: dict[str, Position] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Fate -> records; those of the summary add up to the records read."""
    notices: list[str] = field(default_factory=list)
    batch: int = BATCH
    excerpts: bool = True
    """Whether rejects keep how their message began, redacted."""
    score: Score = score
    """What runs a scorer over a batch."""
    commit_seconds: float = 0.0
    """Wall-clock time that the last commit took to write."""
    _generated: int = 0
    """Records of earlier runs that had no id."""
    _decoder: Decoder = field(init=False)
    _pending: _Pending = field(init=False)
    _committed: float = field(default_factory=time.monotonic)
    _live: LiveSource | None = None
    _stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._decoder, self._pending = self.make_decoder(), _Pending()
        self.joins = Joins(self.engine.slices.size)

    def run(self, *, close: bool) -> None:
        """Read all partitions to their end; with `close` also close what is open then, for good."""
        self._place_partitions()
        while wanted := self._wanted():
            self._take(self._gather(wanted))
            self._end_partitions(close=close)
            self._advance(self._passed())
            self._commit_if_due()
        self._end_partitions(close=close)
        self._advance(self._passed())
        if close:
            self._close_all()
            self._note_what_the_decoder_saw(last=True)
        self.commit()

    def follow(
        self,
        source: LiveSource,
        idleness: Idleness,
        stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what comes of a live source, which is this pipeline's, until told to stop, and commit then.

        Nothing is closed at the end: what is open waits for the next run. `clock` gives seconds, and never goes back.
        """
        self._live, self._stopped = source, stopped
        while not stopped():
            self.on_beat(self)
            self._look_for_partitions(source)
            wanted = self._wanted()
            raws = source.poll(wanted, self.batch)
            self._take(raws)
            self._note(source.notices())
            now = clock()
            for name in idleness.idle(wanted, source.drained(), {raw.partition for raw in raws}, now):
                if not self.admission.partitions[name].idle:
                    self._add([self._admit(name, None, idle=True)])
            self._passed()
            self.admission.tick(idleness.elapsed(silent=self.admission.silent, now=now))
            self._advance(self.admission.watermark, forced_from=self.admission.firm)
            self._commit_if_due()
        self.commit()

    def _look_for_partitions(self, source: LiveSource) -> None:
        """Place partitions that are new; those that are gone for sure leave the watermark."""
        present = source.partitions()
        self._place([name for name in present if name not in self.admission.partitions])
        if not source.trouble:
            self._part_from_others(present)

    def _wanted(self) -> list[str]:
        open_ones = [name for name, ended in self.source.partitions().items() if not ended]
        return self.admission.order(open_ones, AHEAD_SLICES * self.engine.plan.sizes[-1] // SLICES)

    def _place_partitions(self) -> None:
        """Find where each partition that was not read yet stands in time, from its first messages.

        Partitions of an earlier run that are not among the present ones leave the watermark.
        """
        present = self.source.partitions()
        self._part_from_others(present)
        new = [name for name in present if name not in self.admission.partitions]
        self._note([f"{name} is empty" for name in new if present[name]])
        self._place(new)

    def _part_from_others(self, present: Collection[str]) -> None:
        """Known partitions hold the watermark if they are present, and no others do."""
        for name, known in self.admission.partitions.items():
            if known.ended == (name in present):
                self.admission.partitions[name] = replace(known, ended=name not in present)

    def _place(self, new: Sequence[str]) -> None:
        if new:
            peeker = self.make_decoder()
            self.admission.place({name: peeker.decode(self.source.peek(name, FOLLOWERS + 1))[0].ts for name in new})

    def _gather(self, wanted: list[str]) -> list[Raw]:
        """A batch: from the partition that is furthest behind, and from the next ones where it gives little."""
        raws: list[Raw] = []
        while wanted and sum(len(raw.payloads) for raw in raws) < self.batch // 2:
            raws += self.source.poll(wanted, self.batch)
            wanted = [name for name in wanted[1:] if name not in {raw.partition for raw in raws}]
        return raws

    def _take(self, raws: Sequence[Raw]) -> None:
        """Answers of the source: decode, score together, admit each partition's, add together."""
        batches = []
        for raw in raws:
            records, refused = self._decoder.decode(raw)
            self._refuse(raw, refused)
            self.counts.update(reject.reason for reject in (*raw.rejects, *refused))
            batches.append(records)
        accepted = [
            self._admit(raw.partition, scored) for raw, scored in zip(raws, self._measure(batches), strict=True)
        ]
        self._add(accepted)
        self.positions |= {raw.partition: raw.end for raw in raws}

    def _refuse(self, raw: Raw, rejects: Sequence[Reject]) -> None:
        """Keep what could not become records for the next commit: of a live source whole, which may set it aside."""
        if not rejects and not raw.rejects:
            return
        messages = dict(zip(raw.offsets, raw.payloads, strict=True)) if rejects else {}
        refused = [Refused(reject, messages[reject.position]) for reject in rejects]
        if self._live is None:
            self._pending.rejects += [*raw.rejects, *self._excerpted(refused)]
            return
        whole = [reject for reject in raw.rejects if reject.position in raw.aside]
        self._pending.refused += [*refused, *(Refused(reject, raw.aside[reject.position]) for reject in whole)]
        self._pending.rejects += [reject for reject in raw.rejects if reject.position not in raw.aside]

    def _excerpted(self, refused: Sequence[Refused]) -> list[Reject]:
        """The rejects with how their messages begin, where text may be kept."""
        if not self.excerpts or not refused:
            return [reject for reject, _ in refused]
        messages = [message.decode(errors="replace") for _, message in refused]
        texts = [(text or "")[:EXCERPT] for text in redacted_begin(messages, self.engine.redact)]
        return [msgspec.structs.replace(reject, excerpt=text) for (reject, _), text in zip(refused, texts, strict=True)]

    def _measure(self, batches: Sequence[Records]) -> list[Scored]:
        plan, sampling = self.engine.plan.streams, bool(self.engine.samples.scorers)
        redact = self.engine.redact
        return measure(
            batches, self.scorers, plan.by, plan.segments, sampling=sampling, redact=redact, score=self.score
        )

    def _admit(
        self, partition: str, scored: Scored | None, *, ended: bool = False, idle: bool = False
    ) -> Scored | None:
        """The records of one partition that may count now; all that were held if it ended, or is idle."""
        before = self._held(partition)
        if idle:
            accepted, fates = self.admission.rest(partition)
        else:
            accepted, fates = self.admission.admit(partition, scored, ended=ended)
        self.counts.update(fates)
        self.counts["held"] += self._held(partition) - before
        return accepted

    def _add(self, accepted: Sequence[Scored | None]) -> None:
        """Accepted records go to their slices; feedback that needs an exchange waits for it."""
        parts = [part for part in accepted if part is not None]
        if not parts:
            return
        waiting = self._waiting()
        countable = self.joins.take(concatenate(parts))
        self.counts["waiting"] += self._waiting() - waiting
        if countable is not None:
            self.counts.update(self.engine.add(countable))

    def _held(self, partition: str) -> int:
        known = self.admission.partitions.get(partition)
        return len(known.held) if known is not None and known.held is not None else 0

    def _waiting(self) -> int:
        return 0 if self.joins.waiting is None else len(self.joins.waiting)

    def _end_partitions(self, *, close: bool) -> None:
        """Partitions that have come to their end leave the watermark; what they held is decided if the end is final."""
        for name, ended in self.source.partitions().items():
            if ended and not self.admission.partitions[name].ended:
                if close:
                    self._add([self._admit(name, None, ended=True)])
                else:
                    self.admission.partitions[name] = replace(self.admission.partitions[name], ended=True)

    def _passed(self) -> int | None:
        """The watermark, moved on, with what it would leave behind decided before."""
        while overdue := self.admission.overdue():
            for name in overdue:
                self._add([self._admit(name, None, ended=True)])
        return self.admission.advance()

    def _advance(
        self, watermark: int | None, *, partial_from: int | None = None, forced_from: int | None = None
    ) -> None:
        """Close what the watermark has passed."""
        if watermark is None:
            return
        waiting = self._waiting()
        joined, unjoined = self.joins.release(watermark)
        self.counts["waiting"] += self._waiting() - waiting
        self.counts["unjoined"] += unjoined
        if joined is not None:
            self.counts.update(self.engine.add(joined))
        for step in self.engine.close(watermark, partial_from=partial_from, forced_from=forced_from):
            self._pending.readings += step.readings
            self._pending.changes += step.changes
            self._note(step.notices)
            self.on_step(step)
            self._commit_if_due()

    def _close_all(self) -> None:
        """The data is over: close every slice; windows that end behind the last record are cut short."""
        for name in list(self.admission.partitions):
            self._add([self._admit(name, None, ended=True)])
        self._advance(self.admission.advance())
        ends = (self.engine.slices.newest, self.joins.newest, self.engine.now)
        end = max((t for t in ends if t is not None), default=None)
        if end is not None:
            coarsest = self.engine.plan.sizes[-1] // SLICES
            self._advance(-(-end // coarsest) * coarsest, partial_from=self.admission.watermark)

    def _note(self, notices: Sequence[str]) -> None:
        said = [str(notice) for notice in self.engine.redact(notices)]  # a field may be named by an address
        self.notices += said
        self._pending.notices += said

    def record(self, action: Action, event: Event | None = None) -> None:
        """Keep with the next commit what somebody did, and what they said has happened, redacted."""
        redact = self.engine.redact
        (detail,) = redact([action.detail])
        self._pending.actions.append(msgspec.structs.replace(action, detail=str(detail)))
        if event is not None:
            title, text = redact([event.title, event.text or ""])
            self._pending.events.append(
                msgspec.structs.replace(event, title=str(title), text=None if event.text is None else str(text))
            )

    # ---- state ------------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        waiting = self._pending
        many = len(waiting.rejects) + len(waiting.refused) >= COMMIT_REJECTS
        large = sum(len(message) for _, message in waiting.refused) >= COMMIT_REFUSED_BYTES
        if many or large or time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def _set_aside(self) -> bool:
        """Give refused messages to their source, however long that takes, and the rest to the store.

        False where it was told to stop before that could be done: what comes after is not committed either, and all of
        it is read again.
        """
        if self._live is None or not self._pending.refused:
            return True
        while (left := self._live.set_aside(self._pending.refused)) is None:
            self.on_beat(self)
            if self._stopped():
                return False
            time.sleep(RETRY_SECONDS)
        kept = {(reject.source, reject.position) for reject in left}
        rest = [each for each in self._pending.refused if (each.reject.source, each.reject.position) in kept]
        self._pending.rejects += self._excerpted(rest)
        self._pending.refused = []
        return True

    def commit(self) -> None:
        """Write all that has happened since the last commit, in one transaction."""
        if not self._set_aside():
            return
        self._note_what_the_decoder_saw()
        watermark = self.admission.watermark
        self._store(
            Checkpoint(
                positions=self.positions,
                blobs=[*self.engine.blobs(), *self._own_blobs()],
                counts=self.fates(),
                readings=self._pending.readings,
                changes=self._pending.changes,
                alerts=list(self.engine.alerts.values()),
                rejects=self._pending.rejects,
                notices=self._pending.notices,
                events=self._pending.events,
                actions=self._pending.actions,
                meta={
                    "watermark": "" if watermark is None else format_time(watermark),
                    "generated_ids": str(self._generated + self._decoder.generated_ids),
                },
            )
        )
        self._pending, self._committed = _Pending(), time.monotonic()
        if self._live is not None:
            self._live.committed(self.positions)
        self.on_commit(self)

    def _store(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; beside a live source however long that takes.

        Raises StoreUnwritableError where it was told to stop before that could be done; no other checkpoint may be
        made then, since state is packed once.
        """
        while True:
            begun = time.monotonic()
            try:
                self.store.commit(checkpoint)
            except StoreUnwritableError as error:
                self.trouble = f"{error}; nothing further is read until it can be"
                self.on_beat(self)
                if self._live is None or self._stopped():
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                self.trouble, self.commit_seconds = "", time.monotonic() - begun
                return

    def _note_what_the_decoder_saw(self, *, last: bool = False) -> None:
        """What the decoder noticed, each once: a decoder of another run may have seen it first at another place."""
        for notice in self._decoder.notices(last=last):
            begin = notice.partition(" (first seen at ")[0]
            if not any(text.startswith(begin) for text in self.notices):
                self._note([notice])

    def fates(self) -> Mapping[str, int]:
        """Fate -> records, adding up to the records read."""
        found = {"counted": 0, **self.counts}
        return {name: count for name, count in sorted(found.items()) if count or name == "counted"}

    def _own_blobs(self) -> list[Blob]:
        times = [
            (name, t.place, t.newest, t.ended, None if t.held is None else self._redacted(t.held).dump())
            for name, t in self.admission.partitions.items()
        ]
        packed = msgspec.msgpack.encode((self.admission.watermark, times))
        return [Blob("pipeline", "times", packed), *self.joins.blobs()]

    def _redacted(self, records: Scored) -> Scored:
        """Held records as they may be kept: their text is redacted once more, to the same, should it be sampled."""
        said = records.transcripts
        return records if said is None else replace(records, transcripts=redacted(said, self.engine.redact))

    def resume(self) -> None:
        """Go on from what the store holds. Raises ValueError where it does not fit what is there now."""
        blobs = self.store.blobs()
        held = {(table, key): data for table, key, data in blobs}
        if ("pipeline", "times") not in held:
            return
        self.engine.restore(blobs)
        self.joins.restore(blobs)
        self.admission.watermark, times = msgspec.msgpack.decode(held["pipeline", "times"])
        for name, place, newest, ended, packed in times:
            waiting = None if packed is None else Scored.load(packed)
            self.admission.partitions[name] = PartitionTime(place, newest, waiting, ended)
        self.counts.update(self.store.counts())
        self._generated = int(self.store.meta()["generated_ids"])
        self.notices += self.store.notices()
        self.positions = self.store.positions()
        self.source.resume(self.positions)


@dataclass(slots=True)
class _Pending:
    """What the next commit appends."""

    readings: list[Reading] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    """Of a live source, which may have a place for them."""
    notices: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
