"""Reference files: what comes back, what is refused and in which words, how two are compared."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from monitor.clusters import Codebook
from monitor.distances import jensen_shannon, ks, mmd
from monitor.model import Scope, Signal
from monitor.reference import Learning, ScopeReference
from monitor.reference_file import MAGIC, VERSION, ReferenceFile, ReferenceFileError, compare, misfits, pack, unpack
from monitor.settings import MINUTE
from monitor.summaries import Vector, summarise
from monitor.windows import Contents, Slice
from tests.test_reference import BOT, SECOND, SIGNALS, SIZE, learned, slice_of

TENANT = Scope("bot", "tenant=a")
VECTOR = Signal("prompt_embedding", "vector", sample=True, fingerprint="mini@1", size=4)
ALL = {**SIGNALS, VECTOR.name: VECTOR}
BOOKS = {("bot", VECTOR.name): Codebook(np.eye(4)[:2], 0.3)}


def vectors(seed: int, turn: float = 0.0, count: int = 80) -> ScopeReference:
    """A reference with one vector signal, of a tenant."""
    learning = Learning(TENANT, 0, count * SECOND, [SIZE])
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        rows = rng.normal(0, 1, (20, 4)) + np.array([turn, 0, 0, 0])
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        none, order = np.zeros(20, np.uint64), rng.integers(0, 2**63, 20).astype(np.uint64)
        (part,) = summarise(VECTOR, rows, np.zeros(20, np.int64), 1, none, np.ones(1), order)
        contents = Contents(20, {VECTOR.name: part})
        learning.take(SIZE, Slice(number * SECOND, (number + 1) * SECOND, {TENANT: contents}))
    return learning.freeze({VECTOR.name: VECTOR})


@pytest.fixture(scope="module")
def references() -> list[ScopeReference]:
    return [learned([slice_of(i, 20) for i in range(80)]), vectors(0)]


@pytest.fixture(scope="module")
def data(references: list[ScopeReference]) -> bytes:
    return pack([SIZE], ALL, references, BOOKS)


@pytest.fixture(scope="module")
def file(data: bytes) -> ReferenceFile:
    return unpack(data, "good.reference")


# ---- content --------------------------------------------------------------------------------------------------------


def test_a_file_holds_what_was_packed(file: ReferenceFile, references: list[ScopeReference]) -> None:
    assert list(file.scopes) == [BOT, TENANT]
    assert {key: book.dump() for key, book in file.books.items()} == {key: book.dump() for key, book in BOOKS.items()}
    assert [found.dump() for found in file.scopes.values()] == [reference.dump() for reference in references]
    assert (file.begin, file.end, file.length) == (0, 80 * SECOND, 80 * SECOND)
    assert file.sizes == [SIZE]
    assert file.signals == ALL


def test_the_id_is_that_of_the_content(data: bytes, file: ReferenceFile, references: list[ScopeReference]) -> None:
    assert data == pack([SIZE], dict(reversed(ALL.items())), references[::-1], BOOKS), "in whatever order it is given"
    assert file.id == hashlib.sha256(data[:-32]).hexdigest()[:12]
    other = pack([SIZE], ALL, [learned([slice_of(i, 20, seed=i == 7) for i in range(80)]), references[1]], BOOKS)
    assert unpack(other, "").id != file.id


def test_nothing_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="no stream has learned anything"):
        pack([SIZE], ALL, [], {})


# ---- refusals -------------------------------------------------------------------------------------------------------


def resealed(data: bytes, edit: Callable[[bytearray], object]) -> bytes:
    """A file that was edited by somebody who knows how it is sealed."""
    body = bytearray(data[:-32])
    edit(body)
    return bytes(body) + hashlib.sha256(body).digest()


@pytest.mark.parametrize("kept", [1, len(MAGIC) - 1, len(MAGIC), len(MAGIC) + 9, 0.5, -1])
def test_a_file_cut_short_is_refused(data: bytes, kept: float) -> None:
    cut = data[: int(len(data) * kept) if 0 < kept < 1 else int(kept)]
    with pytest.raises(ReferenceFileError, match=r"^x\.ref: is cut short, .* bytes; copy it again, or build it again"):
        unpack(cut, "x.ref")


def test_a_byte_changed_anywhere_is_refused(data: bytes) -> None:
    for at in np.linspace(0, len(data) - 1, 97).astype(int).tolist():
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        with pytest.raises(ReferenceFileError, match=r"x\.ref: (was changed after|is cut short|is not a reference)"):
            unpack(changed, "x.ref")
    with pytest.raises(ReferenceFileError, match="was changed after it was built"):
        unpack(data + b"\n", "x.ref")
    with pytest.raises(ReferenceFileError, match="hash is not that of its content"):
        unpack(data[:-1] + bytes([data[-1] ^ 1]), "x.ref")


@pytest.mark.parametrize("other", [b"", b"{}", b"SQLite format 3\0", b"\0" * 500])
def test_another_file_is_refused(other: bytes) -> None:
    with pytest.raises(ReferenceFileError, match="is not a reference that `driftd reference build` made"):
        unpack(other, "x.ref")


def test_a_file_of_a_newer_driftd_is_refused(data: bytes) -> None:
    newer = resealed(data, lambda body: struct.pack_into(">H", body, len(MAGIC), VERSION + 1))
    with pytest.raises(ReferenceFileError, match=r"built by a newer driftd \(format 4; this one knows 3\); upgrade"):
        unpack(newer, "x.ref")


def test_a_body_that_is_none_is_refused_though_its_hash_is_right(data: bytes) -> None:
    start = len(MAGIC) + 10

    def scrambled(body: bytearray) -> None:
        body[start:] = bytes(len(body) - start)

    with pytest.raises(ReferenceFileError, match=r"x\.ref: cannot be read: .*; build it again"):
        unpack(resealed(data, scrambled), "x.ref")


def test_references_of_another_version_are_refused(file: ReferenceFile) -> None:
    body = msgspec.msgpack.decode(pack([SIZE], ALL, file.scopes.values(), {})[len(MAGIC) + 10 : -32])
    body[1][0] = msgspec.msgpack.encode((99, *msgspec.msgpack.decode(body[1][0])[1:]))
    packed = msgspec.msgpack.encode(body)
    whole = MAGIC + struct.pack(">HQ", VERSION, len(packed)) + packed
    with pytest.raises(ReferenceFileError, match=r"x\.ref: holds a reference of version 99.*; build it again"):
        unpack(whole + hashlib.sha256(whole).digest(), "x.ref")


# ---- does it fit what is measured? ----------------------------------------------------------------------------------


def test_a_file_fits_what_it_was_made_of(file: ReferenceFile) -> None:
    assert misfits(file, [SIZE], ALL) == []


def test_every_difference_is_told(file: ReferenceFile) -> None:
    measured = {name: signal for name, signal in ALL.items() if name != "error"}
    measured["cost"] = Signal("cost", "numeric")
    measured["reason"] = Signal("reason", "rate")
    measured["score"] = Signal("score", "numeric", "log")
    measured["chars"] = msgspec.structs.replace(ALL["chars"], fingerprint="$.other")
    assert misfits(file, [SIZE, MINUTE], measured) == [
        "windows of 1m are not in it, it has 12s",
        "cost: it is measured now, the reference lacks it",
        "chars: measured by the default in the reference, by $.other now",
        "error: the reference has it, nothing measures it now",
        "reason: of kind category in the reference, of kind rate now",
        "score: the reference measured it on another scale or on another part of the records",
    ]


def test_another_embedding_model_is_told(file: ReferenceFile) -> None:
    other = msgspec.structs.replace(VECTOR, fingerprint="maxi@2")
    (problem,) = misfits(file, [SIZE], {**ALL, VECTOR.name: other})
    assert problem == (
        "prompt_embedding: the reference was made with another embedding model or other settings of it, mini@1, "
        "not with maxi@2"
    )
    (problem,) = misfits(file, [SIZE], {**ALL, VECTOR.name: msgspec.structs.replace(other, size=8)})
    assert problem == "prompt_embedding: the reference has vectors of 4 entries, the model now makes 8"


# ---- two files ------------------------------------------------------------------------------------------------------


def test_files_are_compared_by_what_both_have(file: ReferenceFile) -> None:
    shifted = learned([slice_of(i, 20, shift=0.5) for i in range(80)])
    fewer = shifted.without(["reason"])
    other = unpack(pack([SIZE], ALL, [fewer, vectors(1, turn=1.5)], {}), "")
    rows = compare(file, other)
    assert [row.signal.name for row in rows][:2] == ["prompt_embedding", "chars"]
    assert {row.signal.name for row in rows} == {"prompt_embedding", "chars", "score", "error"}
    assert [row.size for row in rows] == sorted((row.size for row in rows), reverse=True)
    by_name = {row.signal.name: row for row in rows}
    old, new = file.scopes[BOT].series["chars"], shifted.series["chars"]
    edges = int(max(old.summary.cells.keys.max(), new.summary.cells.keys.max())) + 1
    dense = [np.bincount(s.summary.cells.keys, s.summary.cells.counts, minlength=edges) for s in (new, old)]
    assert by_name["chars"].distances["ks"] == pytest.approx(float(ks(*dense)), abs=1e-12)
    bins = [
        np.bincount(old.place(s.summary.cells.keys), s.summary.cells.counts, minlength=old.bins) for s in (new, old)
    ]
    assert by_name["chars"].distances["jensen_shannon"] == pytest.approx(float(jensen_shannon(*bins)), abs=1e-12)
    assert float(by_name["chars"].after) / float(by_name["chars"].before) == pytest.approx(np.exp(0.5), rel=0.1)
    there, here = (f.scopes[TENANT].series[VECTOR.name].summary for f in (file, other))
    assert isinstance(there, Vector)
    assert isinstance(here, Vector)
    assert by_name[VECTOR.name].distances["mmd"] == float(mmd(here.embedding, there.embedding))
    assert (by_name[VECTOR.name].before, by_name[VECTOR.name].after) == ("", "")


def test_a_file_is_no_different_from_itself(file: ReferenceFile) -> None:
    rows = compare(file, file)
    assert len(rows) == len(ALL)
    for row in rows:
        assert row.before == row.after
        np.testing.assert_allclose(list(row.distances.values()), 0, atol=1e-6)
    categories = next(row for row in rows if row.signal.kind == "category")
    assert categories.before.endswith(" %")
