"""How to reach Kafka: the settings of a topic's source, and what every client of its brokers is made with."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic

from monitor.decoding import Format
from monitor.settings import Moment, Settings

if TYPE_CHECKING:
    from kafka.cluster import ClusterMetadata

BOOTSTRAP_SECONDS = 5.0
"""How long one try to reach the brokers may take."""
REQUEST_SECONDS = 10.0
"""How long the brokers may take to answer a question."""
Topic = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
C = TypeVar("C")


class KafkaSecurity(Settings):
    """How to reach brokers that ask who it is. Secrets are read from files, each with its own line end cut off."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    """Certificates of who may sign those of the brokers; without it those that the system trusts."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    check_hostname: bool = True

    @pydantic.model_validator(mode="after")
    def _whole(self) -> KafkaSecurity:
        if self.protocol.startswith("SASL") and (self.username is None or self.password_file is None):
            raise ValueError(f"{self.protocol} needs username and password_file")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


def _with_ports(given: tuple[str, ...]) -> tuple[str, ...]:
    if not given:
        raise ValueError("must not be empty")
    if wrong := [broker for broker in given if not re.fullmatch(r"\S+:\d+", broker)]:
        raise ValueError(f"expected host:port, not {wrong[0]!r}")
    return given


class KafkaSettings(Settings):
    """A topic to read."""

    kind: Literal["kafka"]
    brokers: Annotated[tuple[str, ...], pydantic.AfterValidator(_with_ports)]
    """``host:port``, of one broker or more of the cluster."""
    topic: Topic
    group: Annotated[str, pydantic.Field(min_length=1)] | None = None
    """Consumer group to which positions are copied after each commit, for tools that watch lag. Nobody joins it."""
    format: Format = "native"
    start: Literal["earliest", "latest"] | Moment = "earliest"
    """Where to begin in a topic of which no position is stored."""
    lost: Literal["stop", "earliest", "latest"] = "stop"
    """Where to go on when what a stored position names is gone: deleted before it was read, or of an older topic."""
    dead_letter: Topic | None = None
    """Topic for messages that are no records: the only place that gets them raw. It must be there. None: no topic."""
    max_record_bytes: pydantic.PositiveInt = 8 << 20
    security: KafkaSecurity = KafkaSecurity()


def client_options(settings: KafkaSettings, api_version: tuple[int, ...] | None = None) -> dict[str, Any]:
    """What every client of the brokers is made with; `api_version` of brokers that cannot be asked for it."""
    given = settings.security
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.brokers),
        "client_id": "driftd",
        "security_protocol": given.protocol,
        "bootstrap_timeout_ms": round(1000 * BOOTSTRAP_SECONDS),
        "request_timeout_ms": round(1000 * REQUEST_SECONDS),
    }
    if api_version is not None:
        options["api_version"] = api_version
    if given.protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=given.ca_file)
        context.check_hostname = given.check_hostname
        if given.certificate_file is not None:
            context.load_cert_chain(given.certificate_file, given.key_file, _secret(given.key_password_file))
        options["ssl_context"] = context
    if given.protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": given.mechanism,
            "sasl_plain_username": given.username,
            "sasl_plain_password": _secret(given.password_file),
        }
    return options


def connected(make: Callable[..., C], **options: Any) -> C:
    """A client of the brokers, made with these options. Raises KafkaTimeoutError with why no connection came to be.

    One that cannot be made leaves a thread and its sockets behind in kafka-python 3.0; they are closed.
    """
    from kafka.errors import KafkaTimeoutError  # noqa: PLC0415
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415

    made: list[KafkaNetClient] = []

    def client(**given: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**given))
        return made[-1]

    with _heard() as said:
        try:
            return make(**options, kafka_client=client)
        except BaseException as error:
            for one in made:
                one.close()
            if isinstance(error, KafkaTimeoutError):
                reasons = list(dict.fromkeys(said))
                # What the broker answered is lost where it closed the connection right behind it.
                if options["security_protocol"].startswith("SASL") and not any(
                    "uthentication" in why for why in reasons
                ):
                    reasons.append("perhaps the broker does not accept the username and password")
                raise KafkaTimeoutError("; ".join([str(error.args[0]), *reasons])) from None
            raise


def create_no_topics(cluster: ClusterMetadata) -> None:
    """What `allow_auto_create_topics=False` is for: kafka-python 3.0 does not pass it on to what asks for metadata."""
    cluster.config["allow_auto_create_topics"] = False


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Why connections failed, which kafka-python logs; its exceptions only say that there is none."""
    heard: list[str] = []

    def listen(record: logging.LogRecord) -> None:
        _, failed, why = record.getMessage().partition(" failed: ")
        if failed and record.levelno == logging.WARNING:
            heard.append(why.partition(" (backoff")[0])

    handler = logging.Handler()
    handler.emit = listen  # type: ignore[method-assign]
    logger = logging.getLogger("kafka.net.manager")
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)


def _secret(path: Path | None) -> str | None:
    return None if path is None else path.read_text().rstrip("\r\n")
