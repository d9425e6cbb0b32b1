"""Where records come from: a row of SOURCES for every kind of source that a configuration may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import pydantic

from monitor.contracts import LiveSource, Source
from monitor.settings import Settings
from monitor.sources.files import Files, FilesSettings
from monitor.sources.followed import Followed
from monitor.sources.kafka import Kafka
from monitor.sources.kafka_client import KafkaSettings
from monitor.sources.push import Push, PushSettings


class SourceKind(NamedTuple):
    """What a configuration may say of a source, and what makes the source from it."""

    settings: type[Settings]
    make: Callable[..., Source]
    """Takes an instance of `settings`, and keywords of its own."""
    follow: Callable[..., LiveSource]
    """What makes one that goes on: takes the same, and `refresh`, the seconds between two looks for new partitions."""


SOURCES: dict[str, SourceKind] = {
    "files": SourceKind(FilesSettings, Files, Followed),
    "kafka": SourceKind(KafkaSettings, Kafka, Kafka),
    "push": SourceKind(PushSettings, Push, Push),
}
"""The `kind` of a source -> how it is set and made."""

SourceSettings = Annotated[FilesSettings | KafkaSettings | PushSettings, pydantic.Field(discriminator="kind")]
"""What a configuration may say of any source."""
