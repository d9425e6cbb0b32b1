"""Where messages that are no records are put whole: a topic of their own, for whoever sent them to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from monitor.model import Refused, Reject
from monitor.sources import kafka_client
from monitor.sources.kafka_client import KafkaSettings, client_options, connected, create_no_topics

if TYPE_CHECKING:
    from kafka import KafkaProducer

_LARGEST = (1 << 31) - 1
"""Bytes of a message that the client lets through; how large one may be is for the topic to say."""
AT_ONCE = 500
"""Messages that are sent before they are waited for: so many are there long before that has lasted too long."""


class DeadLetters:
    """Puts refused messages into a topic: the bytes as they came, under the key ``partition-offset``, with headers.

    The headers are `reason`, `detail`, `topic`, `partition` and `offset`. A message may be put more than once, with the
    same key. The topic is never created.

    Parameters
    ----------
    writable : whether the topic is there and may be seen; raises KafkaError or OSError where that cannot be known

    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        writable: Callable[[str], bool],
        api_version: tuple[int, ...] | None = None,
    ) -> None:
        self._settings, self._topic, self._writable, self._version = settings, topic, writable, api_version
        self._producer: KafkaProducer | None = None
        self._settled: dict[tuple[str, int], bool] = {}
        """Partition and position of a message -> whether it is there, of those that are not all there yet."""

    def put(self, refused: Sequence[Refused]) -> list[Reject]:
        """Put them all there, and return the rejects of those that may not be.

        Raises KafkaError and OSError where it cannot be known now whether all are there: they are to be put again, and
        those that are known to be there are not sent again then.
        """
        if not refused:
            return []
        if not self._writable(self._topic):
            return [reject for reject, _ in refused]
        for begin in range(0, len(refused), AT_ONCE):
            self._send([each for each in refused[begin : begin + AT_ONCE] if _place(each) not in self._settled])
        left = [each.reject for each in refused if not self._settled[_place(each)]]
        self._settled = {}
        return left

    def _send(self, refused: Sequence[Refused]) -> None:
        """Send some, and settle what can be known of them."""
        from kafka.errors import BrokerResponseError, RetriableError  # noqa: PLC0415

        producer = self._ready()
        sent = [
            (each, producer.send(self._topic, value=each.message, key=_key(each.reject), headers=_headers(each.reject)))
            for each in refused
        ]
        try:
            producer.flush(timeout=kafka_client.REQUEST_SECONDS)
        finally:
            self._settled |= {_place(each): True for each, future in sent if future.succeeded()}
        for each, future in sent:
            try:
                future.get(timeout=kafka_client.REQUEST_SECONDS)
            except BrokerResponseError as error:
                if isinstance(error, RetriableError):
                    raise
                self._settled[_place(each)] = False
            else:
                self._settled[_place(each)] = True

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            from kafka import KafkaProducer  # noqa: PLC0415

            self._producer = connected(
                KafkaProducer,
                **client_options(self._settings, self._version),
                acks="all",
                enable_idempotence=False,
                batch_size=0,  # of a batch that was too large kafka-python 3.0 says that all is written
                max_request_size=_LARGEST,
                max_block_ms=round(1000 * kafka_client.REQUEST_SECONDS),
                delivery_timeout_ms=round(2000 * kafka_client.REQUEST_SECONDS),
                allow_auto_create_topics=False,
            )
            create_no_topics(self._producer._metadata)  # noqa: SLF001
        return self._producer

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        if self._producer is not None:
            self._producer.close(timeout=kafka_client.REQUEST_SECONDS)
        self._producer = None


def _place(refused: Refused) -> tuple[str, int]:
    return refused.reject.source, refused.reject.position


def _key(reject: Reject) -> bytes:
    return f"{reject.source}-{reject.position}".encode()


def _headers(reject: Reject) -> list[tuple[str, bytes]]:
    topic, _, partition = reject.source.rpartition("-")
    texts = {"reason": reject.reason, "detail": reject.detail, "topic": topic, "partition": partition}
    return [(name, text.encode()) for name, text in {**texts, "offset": str(reject.position)}.items()]
