"""Where records come from: a row of SOURCES for every kind of source that a configuration may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from monitor.contracts import Source
from monitor.settings import Settings
from monitor.sources.files import Files, FilesSettings
from monitor.sources.kafka import Kafka, KafkaSettings


class SourceKind(NamedTuple):
    """What a configuration may say of a source, and what makes the source from it."""

    settings: type[Settings]
    make: Callable[..., Source]
    """Takes an instance of `settings`, and keywords of its own."""


SOURCES: dict[str, SourceKind] = {
    "files": SourceKind(FilesSettings, Files),
    "kafka": SourceKind(KafkaSettings, Kafka),
}
"""The `kind` of a source -> how it is set and made."""
