"""Signals of what sampled exchanges are about: a sentence-transformers model's vectors, and how they agree.

Texts are embedded as they stand, each distinct one once a call. Agreement is cosine similarity, clipped to 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated

import msgspec
import numpy as np
import pydantic

from monitor.model import Flags, Ints, Scores, Signal, Transcripts, Vectors
from monitor.scorers.encoder import (
    BUNDLED,
    Device,
    Encoder,
    ModelUnavailableError,
    fetchable,
    fingerprint,
    locate,
)
from monitor.settings import Settings

_SIDES = ("prompt", "response")
SIGNALS = (
    *(Signal(f"{side}_embedding", "vector", sample=True) for side in _SIDES),
    Signal("relevance", "numeric", "unit", sample=True),
    Signal("context_coverage", "numeric", "unit", sample=True),
)
"""What is measured, as far as it is known without the model: vectors lack their size and fingerprint."""

SENTENCES = 8
"""Sentences of a response that are looked for in its contexts, spread evenly where there are more."""
CHUNKS = 16
"""Pieces that the contexts of an exchange are cut into, at most."""
_CHUNK_CHARS = 480
"""Characters of a piece, if so many pieces do: some sentences, about half of what the bundled model reads."""
_SENTENCE = re.compile(r"\S.{7,}?(?:[.!?…]+[\"')\]”’]*(?=\s|\Z)|[。！？]|\n|\Z)", re.DOTALL)
"""Eight characters or more before its end, so that `1.` and `Yes.` go with what follows."""


class EmbeddingSettings(Settings):
    """What the configuration may say of embedding."""

    model: str = BUNDLED
    """`bundled`, a path, or a name on the hub."""
    download: bool = False
    """Whether a model on the hub that is not in the local cache may be fetched."""
    device: Device = "auto"
    """`auto` is CUDA where there is a GPU."""
    max_tokens: Annotated[int, pydantic.Field(ge=16)] = 128
    """Tokens of a text that are read, where the model would read more: what the bundled one was trained with."""
    threads: Annotated[int, pydantic.Field(ge=1)] = 1
    """CPU threads of the model. More than there are idle cores make it slower, not faster."""


def why_unavailable(settings: EmbeddingSettings) -> str | None:
    """Why `Embedding` could not be made, as far as that is known without loading or fetching the model; else None."""
    if find_spec("sentence_transformers") is None:
        return "signals.embedding: sentence-transformers is not installed"
    try:
        locate(settings.model)
    except ModelUnavailableError as error:
        return None if settings.download and fetchable(settings.model) else str(error)
    return None


class Embedding:
    """Vectors of prompts and responses, how near they are, and how much of a response its contexts cover.

    `relevance` is the cosine of prompt and response. `context_coverage` is the mean over sentences of the response of
    the greatest cosine with a piece of the contexts. A text that is absent or blank has no observation of anything.
    Remarks: `prompt_embedding_cut`, `response_embedding_cut` and `context_coverage_cut` where the model did not see
    the end of a text or of a piece of the contexts; `prompt_embedding_not_finite`, `response_embedding_not_finite`
    where it gave no vector.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        """Loads the model. Raises ModelUnavailableError."""
        folder = locate(settings.model, download=settings.download)
        limits = {"max_tokens": settings.max_tokens, "threads": settings.threads}
        self._encoder = Encoder(folder, settings.device, **limits)
        reads = f"-{settings.max_tokens}" if self._encoder.shortened else ""
        made_by = {"fingerprint": fingerprint(folder) + reads, "size": self._encoder.size}
        self._signals = [
            msgspec.structs.replace(signal, **made_by) if signal.kind == "vector" else signal for signal in SIGNALS
        ]

    @property
    def signals(self) -> Sequence[Signal]:
        return self._signals

    def score(self, transcripts: Transcripts) -> Scores:
        """A column for every signal, one entry an exchange."""
        texts = _Distinct()
        said = {side: texts.places(getattr(transcripts, side)) for side in _SIDES}
        grounds = [
            _Ground.of(response, contexts, texts)
            for response, contexts in zip(transcripts.response, transcripts.contexts, strict=True)
        ]
        found = self._encoder.encode(list(texts.place))
        # place -1 is the last row's: no text
        vectors = np.concatenate([found.vectors, np.full((1, self._encoder.size), np.nan, np.float32)])
        cut = np.append(found.cut, False)
        sides = {side: vectors[places] for side, places in said.items()}
        coverage = [ground.coverage(vectors) for ground in grounds]
        columns = {f"{side}_embedding": side_vectors for side, side_vectors in sides.items()} | {
            "relevance": np.clip(np.einsum("ij,ij->i", *sides.values(), dtype=np.float64), 0, 1),
            "context_coverage": np.clip(np.array(coverage, np.float64), 0, 1),
        }
        remarks = {f"{side}_embedding_cut": cut[places] for side, places in said.items()} | {
            f"{side}_embedding_not_finite": np.isnan(sides[side][:, 0]) & (places >= 0) for side, places in said.items()
        }
        remarks["context_coverage_cut"] = np.array([ground.cut(cut) for ground in grounds], np.bool_)
        return Scores(columns, remarks)


@dataclass(frozen=True, slots=True)
class _Distinct:
    """Texts to embed, each once."""

    place: dict[str, int] = field(default_factory=dict)

    def places(self, texts: Sequence[str | None]) -> Ints:
        """The place of each text; -1 where there is none, or nothing but whitespace."""
        places = [self.place.setdefault(text, len(self.place)) if text and not text.isspace() else -1 for text in texts]
        return np.array(places, np.int64)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What of an exchange is compared for coverage, as places of texts; empty where there is nothing to compare."""

    sentences: Ints
    chunks: Ints
    left_out: bool = False
    """Whether contexts were left out, for being more than CHUNKS pieces."""

    @classmethod
    def of(cls, response: str | None, contexts: Sequence[str] | None, texts: _Distinct) -> _Ground:
        sentences = _sentences(response or "")
        chunks = _chunks(contexts or ())
        if not sentences or not chunks:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        return cls(texts.places(sentences), texts.places(chunks[:CHUNKS]), len(chunks) > CHUNKS)

    def coverage(self, vectors: Vectors) -> float:
        if not len(self.sentences):
            return np.nan
        cosines = vectors[self.sentences] @ vectors[self.chunks].T
        return float(cosines.max(axis=1).mean(dtype=np.float64))

    def cut(self, cut: Flags) -> bool:
        return self.left_out or bool(cut[self.chunks].any())


def _sentences(text: str) -> list[str]:
    """Sentences and lines of a text, at most SENTENCES.

    >>> _sentences("1. Open the lid. Is it dry? Then close it (softly).")
    ['1. Open the lid.', 'Is it dry?', 'Then close it (softly).']
    """
    found = [match.strip() for match in _SENTENCE.findall(text)] or [text.strip()]
    if len(found) > SENTENCES:
        found = [found[i] for i in np.linspace(0, len(found) - 1, SENTENCES).round().astype(int)]
    return [sentence for sentence in found if sentence]


def _chunks(contexts: Sequence[str]) -> list[str]:
    """Pieces of contexts: of _CHUNK_CHARS each, or CHUNKS longer ones of all of them together."""
    cleaned = [" ".join(text.split()) for text in contexts]
    pieces = [piece for text in cleaned for piece in _cut(text, _CHUNK_CHARS)]
    if len(pieces) <= CHUNKS:
        return pieces
    together = " ".join(cleaned)
    # as wide as one piece less would need, since cuts are made at spaces
    return _cut(together, max(len(together) // (CHUNKS - 1) + 1, _CHUNK_CHARS))


def _cut(text: str, width: int) -> list[str]:
    """A text in pieces of at most `width` characters, cut at a space where the second half of a piece has one.

    >>> _cut("one two three", 8), _cut("abcdefg", 3)
    (['one two', 'three'], ['abc', 'def', 'g'])
    """
    pieces, start = [], 0
    while start < len(text):
        end = start + width
        if end < len(text):
            space = text.rfind(" ", start + width // 2, end + 1)
            end = space if space > start else end
        pieces.append(text[start:end].strip())
        start = end + (text[end : end + 1] == " ")
    return pieces
