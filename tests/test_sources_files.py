from __future__ import annotations

import gzip
import hashlib
import io
import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pydantic
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.model import Position, Raw, Reject
from monitor.sources import files
from monitor.sources import lines as cutting
from monitor.sources.files import Files, FilesSettings

Message = tuple[int, int, bytes]
"""Offset, line number, payload."""


class Opened:
    """Sources that are closed at the end of a test: a file left open is a warning, and warnings are errors."""

    def __init__(self) -> None:
        self.sources: list[Files] = []

    def __call__(
        self, *paths: Path | str, growing: bool = False, stdin: bytes | None = None, max_record_bytes: int = 8 << 20
    ) -> Files:
        chosen = FilesSettings(kind="files", paths=[str(path) for path in paths], max_record_bytes=max_record_bytes)
        stream = None if stdin is None else io.BytesIO(stdin)
        self.sources.append(Files(chosen, growing=growing, stdin=stream))
        return self.sources[-1]


@pytest.fixture
def source() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    for each in opened.sources:
        each.close()


def answers(source: Files, limit: int = 1_000) -> list[Raw]:
    found = []
    while unfinished := [name for name, ended in source.partitions().items() if not ended]:
        found += source.poll(unfinished, limit)
    return found


def messages(found: Iterable[Raw]) -> list[Message]:
    return [row for raw in found for row in zip(raw.offsets, raw.lines, raw.payloads, strict=True)]


def payloads(source: Files) -> list[bytes]:
    return [payload for raw in answers(source) for payload in raw.payloads]


def rejects(found: Iterable[Raw]) -> list[Reject]:
    return [reject for raw in found for reject in raw.rejects]


def ends(found: Iterable[Raw]) -> dict[str, Position]:
    return {raw.partition: raw.end for raw in found}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def compress_gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def compress_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {"jsonl": bytes, "jsonl.gz": compress_gzip, "jsonl.zst": compress_zstd}
packed = pytest.mark.parametrize(("suffix", "pack"), PACKS.items(), ids=list(PACKS))
compressed = pytest.mark.parametrize(("suffix", "pack"), list(PACKS.items())[1:], ids=list(PACKS)[1:])


def noise(lines: int, size: int = 60) -> bytes:
    """Lines that no compression makes much smaller, so that their packed bytes spread over the file."""
    return b"".join(hashlib.shake_256(b"%d" % i).hexdigest(size // 2).encode() + b"\n" for i in range(lines))


# ---- settings and paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"paths": []}, "paths"),
        ({}, "paths"),
        ({"paths": ["-"], "max_record_bytes": 0}, "max_record_bytes"),
        ({"paths": ["-"], "kind": "file"}, "kind"),
        ({"paths": ["-"], "formt": "native"}, "formt"),
    ],
)
def test_settings_name_the_field_that_is_wrong(given: dict[str, object], field: str) -> None:
    with pytest.raises(pydantic.ValidationError) as error:
        FilesSettings.model_validate({"kind": "files"} | given)
    assert [each["loc"] for each in error.value.errors()] == [(field,)]


def test_a_folder_gives_its_logs_sorted_and_nothing_else(tmp_path: Path, source: Opened) -> None:
    for name in ("b.jsonl", "a/z.jsonl.gz", "a/deep/y.jsonl.zst", "c.txt", "d.json", "e.jsonl.bz2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(source(tmp_path).partitions()) == [
        str(tmp_path / name) for name in ("a/deep/y.jsonl.zst", "a/z.jsonl.gz", "b.jsonl")
    ]


def test_globs_reach_into_folders(tmp_path: Path, source: Opened) -> None:
    for name in ("x/1.log", "x/y/2.log", "x/y/3.jsonl", "z/4.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())

    def names(pattern: str) -> list[str]:
        return [str(Path(name).relative_to(tmp_path)) for name in source(tmp_path / pattern).partitions()]

    assert names("**/*.log") == ["x/1.log", "x/y/2.log"]
    assert names("x/*.log") == ["x/1.log"]
    assert names("[xz]") == ["x/y/3.jsonl", "z/4.jsonl"]  # folders that a glob matches are read as folders


def test_a_name_with_glob_characters_is_a_name_first(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "log[1].jsonl").write_bytes(b"bracket")
    (tmp_path / "log1.jsonl").write_bytes(b"other")
    assert payloads(source(tmp_path / "log[1].jsonl")) == [b"bracket"]


def test_a_file_named_itself_may_be_called_anything(tmp_path: Path, source: Opened) -> None:
    for name, pack in (("today.log", bytes), ("today.txt.gz", compress_gzip), ("x.zst", compress_zstd)):
        (tmp_path / name).write_bytes(pack(b"one\ntwo\n"))
        assert payloads(source(tmp_path / name)) == [b"one", b"two"]


def test_all_wrong_paths_are_told_at_once(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.jsonl").touch()
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.jsonl")
    wrong = ["none.jsonl", "*.nothing", "empty", "dangling.jsonl", "pipe.jsonl"]
    with pytest.raises(ValueError, match=r"does not exist") as error:
        source(tmp_path / "good.jsonl", *(tmp_path / name for name in wrong))
    told = str(error.value).splitlines()
    assert [line.split(" ")[0] for line in told] == [str(tmp_path / name) for name in wrong]
    assert [line.split(" ", 1)[1].split(";")[0] for line in told] == [
        "does not exist",
        "matches no file",
        "holds no file that ends in .jsonl, .jsonl.gz, .jsonl.zst",
        "cannot be opened: No such file or directory",
        "is not a file",
    ]


def test_an_empty_path_is_no_path(source: Opened) -> None:
    with pytest.raises(ValueError, match=r"at least 1 character"):
        source("")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.touch()
    real = Path.open

    def forbidden(path: Path, *args: object, **keywords: object) -> object:
        if path == secret:  # root may read everything, so that taking the permission away would show nothing
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **keywords)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ValueError, match=r"secret\.jsonl cannot be opened: Permission denied"):
        source(tmp_path)


def test_one_file_by_many_names_is_read_once(tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.jsonl"
    log.write_bytes(b"one\n")
    (tmp_path / "link.jsonl").symlink_to(log)
    os.link(log, tmp_path / "hard.jsonl")
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    opened = source("a.jsonl", log, "link.jsonl", "*.jsonl", tmp_path, "./folder/a.jsonl", "folder")
    assert list(opened.partitions()) == [str(log)]
    assert payloads(opened) == [b"one"]


def test_a_name_that_is_not_text_is_spelt_out(tmp_path: Path, source: Opened) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    Path(os.fsdecode(path)).write_bytes(b"one")
    opened = source(tmp_path)
    assert list(opened.partitions()) == [f"{tmp_path}/caf\\xe9.jsonl"]
    assert payloads(opened) == [b"one"]


# ---- lines ----------------------------------------------------------------------------------------------------------


@packed
def test_lines_are_cut_at_line_feeds_only(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    lines = [b'{"a":"\x00\x0b\x0c\x1c\x85"}', "{\u2028\u2029}".encode(), b"a\rb", b"\xff\xfe", b"x\r"]
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(pack(b"\r\n".join(lines)))
    starts = [sum(len(line) + 2 for line in lines[:number]) for number in range(len(lines))]
    expected = list(zip(starts, range(1, 6), [*lines[:-1], b"x"], strict=True))
    assert messages(answers(source(log))) == expected


def test_one_carriage_return_goes_with_the_line_feed(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"a\r\r\nb\n\rc\r\n")
    assert payloads(source(tmp_path)) == [b"a\r", b"b", b"\rc"]


def test_blank_lines_count_as_lines_and_bytes(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n \t\r\none\n\n\x0c\ntwo\n\n\r\n \n")
    (raw,) = answers(source(tmp_path))
    assert messages([raw]) == [(5, 3, b"one"), (12, 6, b"two")]
    assert (raw.end.offset, raw.end.line) == (21, 9)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert messages(answers(source(tmp_path))) == [(3, 1, b"one"), (7, 2, b"\xef\xbb\xbftwo")]


@packed
def test_an_empty_file_has_ended_at_once(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(pack(b""))
    (tmp_path / f"b.{suffix}").touch()
    opened = source(tmp_path)
    assert list(opened.partitions().values()) == [True, True]
    assert opened.poll(list(opened.partitions()), 10) == []
    assert opened.peek(str(tmp_path / f"a.{suffix}"), 10).payloads == []


def test_a_file_of_blank_lines_ends_without_a_message(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf\n \n" * 3)
    opened = source(tmp_path)
    assert payloads(opened) == [b"\xef\xbb\xbf"] * 2  # a mark counts as one at the start only
    (tmp_path / "a.jsonl").write_bytes(b"\n \n" * 3)
    assert answers(source(tmp_path)) == []


@pytest.mark.parametrize("block", [1, 4, 1 << 18])
def test_the_end_is_known_with_the_last_message(
    tmp_path: Path, source: Opened, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "FIRST_BLOCK", block)
    monkeypatch.setattr(cutting, "BLOCK", block)
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\nthree\n\n")
    opened = source(tmp_path)
    seen = []
    for _ in range(3):
        (raw,) = opened.poll(list(opened.partitions()), 1)
        seen.append((raw.payloads, raw.end.offset, *opened.partitions().values()))
    assert seen == [([b"one"], 4, False), ([b"two"], 8, False), ([b"three"], 15, True)]


def test_the_end_is_known_where_answers_are_cut_by_bytes(
    tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST_BLOCK", 4), ("BLOCK", 4), ("READ_AHEAD", 1)):
        monkeypatch.setattr(cutting, name, value)
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\nsix\nten\n")
    opened = source(tmp_path)
    name = str(tmp_path / "a.jsonl")
    got = []
    while not opened.partitions()[name]:
        (raw,) = opened.poll([name], 100)
        got += raw.payloads
    assert got == [b"one", b"two", b"six", b"ten"]


def expected_messages(text: bytes, limit: int) -> tuple[list[Message], list[tuple[int, int, int, str]]]:
    """What the docstrings promise, line by line and slowly."""
    good, long = [], []
    offset = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    for number, line in enumerate(text[offset:].split(b"\n"), start=1):
        payload = line[:-1] if line.endswith(b"\r") else line
        if len(payload) > limit:
            long.append((offset, number, len(payload), sha256(payload)))
        elif payload.strip():
            good.append((offset, number, payload))
        offset += len(line) + 1
    return good, long


LINE = st.one_of(
    st.sampled_from(
        [b"", b" ", b"\r", b"\t\r", b"\xef\xbb\xbf", b"x" * 19, b"x" * 19 + b"\r", b"y" * 20, b"y" * 20 + b"\r"]
    ),
    st.builds(lambda part, times: part * times, st.sampled_from([b"ab", b"a\r", b"\xc3\xa9"]), st.integers(0, 120)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINE, max_size=12),
    unterminated=st.booleans(),
    mark=st.booleans(),
    suffix=st.sampled_from(list(PACKS)),
    block=st.sampled_from([1, 2, 7, 64, 1 << 18]),
    limit=st.integers(1, 5),
)
def test_any_text_in_any_blocks_gives_its_lines(  # noqa: PLR0917 hypothesis passes by name
    tmp_path: Path,
    source: Opened,
    lines: list[bytes],
    unterminated: bool,  # noqa: FBT001
    mark: bool,  # noqa: FBT001
    suffix: str,
    block: int,
    limit: int,
) -> None:
    text = b"\xef\xbb\xbf" * mark + b"\n".join(lines) + b"\n" * (not unterminated)
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(PACKS[suffix](text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "FIRST_BLOCK", block)
        patch.setattr(cutting, "BLOCK", block)
        found = answers(source(log, max_record_bytes=19), limit)
        log.unlink()
    long = [(reject.position, reject.line, reject.size, reject.sha256) for reject in rejects(found)]
    assert (messages(found), long) == expected_messages(text, 19)
    assert {reject.reason for reject in rejects(found)} <= {"oversized"}


# ---- long lines -----------------------------------------------------------------------------------------------------


@packed
def test_a_long_line_is_refused_and_reading_goes_on(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    long = noise(1, size=10_000_000).strip()
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(pack(b"before\n" + long + b"\r\nafter\n"))
    found = answers(source(log))
    assert messages(found) == [(0, 1, b"before"), (7 + len(long) + 2, 3, b"after")]
    (reject,) = rejects(found)
    assert reject == Reject(
        "oversized",
        str(log),
        7,
        10_000_000,
        sha256(long),
        2,
        "10000000 bytes, more than max_record_bytes (8388608)",
    )
    assert found[-1].end.offset == 7 + len(long) + 2 + 6


def test_a_line_of_exactly_the_limit_is_a_message(tmp_path: Path, source: Opened) -> None:
    limit = 300_000  # longer than a block
    (tmp_path / "a.jsonl").write_bytes(b"x" * limit + b"\r\n" + b"y" * limit + b"\n" + b"z" * (limit + 1))
    found = answers(source(tmp_path, max_record_bytes=limit))
    assert [len(payload) for _, _, payload in messages(found)] == [limit, limit]
    assert [reject.size for reject in rejects(found)] == [limit + 1]


def test_a_long_line_is_never_held_whole(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * 40_000_000 + b"\nafter\n")
    opened = source(tmp_path, max_record_bytes=1 << 20)
    tracemalloc.start()
    try:
        found = answers(opened)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [payload for _, _, payload in messages(found)] == [b"after"]
    assert rejects(found)[0].size == 40_000_000
    assert peak < 8 << 20


def test_one_answer_is_bounded_in_bytes_too(tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "READ_AHEAD", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(noise(400, size=10_000))
    found = answers(source(tmp_path), limit=1_000_000)
    assert sum(len(raw.payloads) for raw in found) == 400
    assert max(sum(map(len, raw.payloads)) for raw in found) < 2 << 20


# ---- compressed files -----------------------------------------------------------------------------------------------


@compressed
def test_members_and_frames_are_read_to_the_last(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    text = noise(300)
    cuts = range(0, len(text), 1_000)
    (tmp_path / f"a.{suffix}").write_bytes(b"".join(pack(text[at : at + 1_000]) for at in cuts))
    assert payloads(source(tmp_path)) == text.split()


def test_skippable_frames_and_padding_are_no_data(tmp_path: Path, source: Opened) -> None:
    skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    (tmp_path / "a.jsonl.zst").write_bytes(skippable + compress_zstd(b"one\n") + skippable + compress_zstd(b"two\n"))
    (tmp_path / "b.jsonl.gz").write_bytes(compress_gzip(b"three\n") + bytes(5_000) + compress_gzip(b"four") + b"\0")
    found = answers(source(tmp_path))
    assert [payload for _, _, payload in messages(found)] == [b"one", b"two", b"three", b"four"]
    assert rejects(found) == []


@compressed
def test_what_is_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    text = noise(8_000)
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(pack(text)[: len(pack(text)) // 2])
    opened = source(log)
    found = answers(opened)
    (reject,) = rejects(found)
    good = text[: reject.position]
    assert [payload for _, _, payload in messages(found)] == good.split()[: good.count(b"\n")]
    assert len(good) > len(text) // 5  # zstd gives whole blocks only
    unfinished = good[good.rfind(b"\n") + 1 :]
    assert (reject.reason, reject.source, reject.line) == ("unreadable", str(log), good.count(b"\n") + 1)
    assert (reject.size, reject.sha256) == (len(unfinished), sha256(unfinished))
    assert reject.detail.startswith(("the gzip data is cut short", "the zstd data is cut short"))
    assert opened.partitions() == {str(log): True}


@compressed
def test_every_length_of_a_cut_file_is_told_once(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    log = tmp_path / f"a.{suffix}"
    data = pack(b"one\n") + pack(b"two\nthree")
    first = len(pack(b"one\n"))
    whole = {0, first, len(data)}
    for size in range(len(data) + 1):
        log.write_bytes(data[:size])
        found = answers(source(log))
        assert [reject.reason for reject in rejects(found)] == ([] if size in whole else ["unreadable"])
        got = [payload for _, _, payload in messages(found)]
        assert got == [b"one", b"two", b"three"][: len(got)]
        assert len(got) >= (size >= first)
        assert (len(got) == 3) == (size == len(data))


@compressed
def test_what_is_damaged_is_read_up_to_the_damage(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    text = noise(3_000)
    data = bytearray(pack(b"first\n") + pack(text))
    data[-3] ^= 0xFF  # in the check sum: all that it covers could be read
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(data)
    found = answers(source(log))
    assert [payload for _, _, payload in messages(found)] == [b"first", *text.split()]
    (reject,) = rejects(found)
    assert (reject.reason, reject.position, reject.size) == ("unreadable", len(text) + 6, 0)
    assert "is damaged" in reject.detail
    assert f"nothing behind byte {len(text) + 6} was read" in reject.detail
    assert log.stat().st_mode  # the source opened it for reading only
    assert log.read_bytes() == data


@compressed
def test_what_is_not_compressed_at_all_is_told(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    del pack
    for data in (b"plain text\n" * 1_000, bytes(5_000)):  # zeros are what a crash leaves
        (tmp_path / f"a.{suffix}").write_bytes(data)
        opened = source(tmp_path)
        assert list(opened.partitions().values()) == [False]
        found = answers(opened)
        assert messages(found) == []
        assert [(reject.reason, reject.position, reject.size) for reject in rejects(found)] == [("unreadable", 0, 0)]


@compressed
def test_rubbish_behind_the_data_is_told(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(pack(b"one\ntwo\n") + b"rubbish")
    found = answers(source(tmp_path))
    assert [payload for _, _, payload in messages(found)] == [b"one", b"two"]
    assert [(reject.reason, reject.position) for reject in rejects(found)] == [("unreadable", 8)]


@compressed
def test_a_break_is_told_once_over_all_runs(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    log = tmp_path / f"a.{suffix}"
    text = noise(9_000)
    log.write_bytes(pack(text)[: len(pack(text)) // 2])
    first = answers(source(log), limit=100)
    again = source(log)
    again.resume(ends(first))
    assert answers(again) == []
    assert list(again.partitions().values()) == [True]
    half = source(log)
    half.resume(ends(first[:3]))
    assert rejects(answers(half)) == rejects(first)
    log.write_bytes(pack(text))  # the whole file has arrived
    mended = source(log)
    mended.resume(ends(first))
    assert messages(first) + messages(answers(mended)) == messages(answers(source(log)))


def test_a_few_bytes_that_stand_for_gigabytes_do_no_harm(tmp_path: Path, source: Opened) -> None:
    log = tmp_path / "a.jsonl.zst"
    with log.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(300):
            writer.write(bytes(1 << 20))
        writer.write(b"\nafter\n")
    assert log.stat().st_size < 20_000
    tracemalloc.start()
    try:
        found = answers(source(log, max_record_bytes=1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [payload for _, _, payload in messages(found)] == [b"after"]
    assert [reject.size for reject in rejects(found)] == [300 << 20]
    assert peak < 200 << 20


def test_a_file_that_is_gone_when_its_turn_comes_is_told(tmp_path: Path, source: Opened) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"one\n")
    (tmp_path / "b.jsonl").write_bytes(b"two\n")
    opened = source(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    found = answers(opened)
    assert [payload for _, _, payload in messages(found)] == [b"two"]
    (reject,) = rejects(found)
    assert reject.detail.startswith("the file cannot be read: No such file or directory")
    assert all(opened.partitions().values())


# ---- positions ------------------------------------------------------------------------------------------------------


@packed
def test_a_file_that_has_grown_is_read_on(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    log, text = tmp_path / f"a.{suffix}", noise(200)
    positions: dict[str, Position] = {}
    got: list[Message] = []
    for lines in (1, 3, 100, 100, 200):  # the first two are shorter than what a fingerprint takes
        log.write_bytes(pack(text[: lines * 61]))
        opened = source(log, growing=True)
        opened.resume(positions)
        found = answers(opened, limit=7)
        got += messages(found)
        positions |= ends(found)
    assert got == messages(answers(source(log)))
    assert len(got) == 200


@packed
def test_a_position_in_another_file_is_refused(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    log, text = tmp_path / f"a.{suffix}", noise(100)
    log.write_bytes(pack(text))
    found = answers(source(log), limit=10)
    log.write_bytes(pack(b"other" + text))
    opened = source(log)
    with pytest.raises(ValueError, match=rf"{log}: the position at byte 610 belongs to a file with another beginning"):
        opened.resume(ends(found[:1]))


def test_all_positions_that_do_not_fit_are_told_at_once(tmp_path: Path, source: Opened) -> None:
    text = noise(100)
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(name.encode() + text)
    found = answers(source(tmp_path))
    (tmp_path / "a.jsonl").write_bytes(b"x" + text)
    (tmp_path / "c.jsonl").write_bytes(b"c" + text[:3_000])
    with pytest.raises(ValueError, match=r"a\.jsonl: the position at byte 6101 belongs") as error:
        source(tmp_path).resume(ends(found))
    assert str(error.value).splitlines()[1:] == [
        f"{tmp_path}/c.jsonl: the position is byte 6101, but the file has 3001 bytes now"
    ]


def test_a_compressed_file_that_became_shorter_is_told(tmp_path: Path, source: Opened) -> None:
    log, text = tmp_path / "a.jsonl.gz", noise(100)
    log.write_bytes(compress_gzip(text))
    found = answers(source(log))
    log.write_bytes(compress_gzip(text[:3_000]))
    opened = source(log)
    opened.resume(ends(found))
    (reject,) = rejects(answers(opened))
    assert (reject.reason, reject.position) == ("unreadable", 6100)
    assert reject.detail.startswith("the content ends before the position")


def test_a_position_without_a_fingerprint_is_refused(tmp_path: Path, source: Opened) -> None:
    log = tmp_path / "a.jsonl"
    log.write_bytes(b"one\ntwo\n")
    with pytest.raises(ValueError, match=rf"{log}: the position at byte 4 carries no fingerprint"):
        source(log).resume({str(log): Position(4, 1, "inode-17")})


@packed
def test_a_renamed_file_goes_on_under_its_old_name(tmp_path: Path, source: Opened, suffix: str, pack: Pack) -> None:
    old, new, text = tmp_path / "app.jsonl", tmp_path / f"app-1.{suffix}", noise(100)
    old.write_bytes(text)
    before = source(old).poll([str(old)], 40)
    old.unlink()
    new.write_bytes(pack(text + b"more\n"))
    (tmp_path / "z.jsonl").write_bytes(b"another\n")
    for _ in range(2):  # and does so in every later run
        opened = source(tmp_path)
        opened.resume(ends(before))
        assert list(opened.partitions()) == [str(old), str(tmp_path / "z.jsonl")]
        after = answers(opened)
        assert [payload for _, _, payload in messages(before + after)] == [*text.split(), b"more", b"another"]
        assert {raw.partition for raw in after} == {str(old), str(tmp_path / "z.jsonl")}


def test_a_copy_beside_the_file_is_no_renamed_file(tmp_path: Path, source: Opened) -> None:
    log, copy, text = tmp_path / "a.jsonl", tmp_path / "copy.jsonl", noise(100)
    log.write_bytes(text)
    before = source(log).poll([str(log)], 40)
    copy.write_bytes(text)
    opened = source(tmp_path)
    opened.resume(ends(before))
    assert list(opened.partitions()) == [str(log), str(copy)]
    assert [len(opened.poll([name], 1_000)[0].payloads) for name in opened.partitions()] == [60, 100]


def test_one_renamed_file_is_claimed_once(tmp_path: Path, source: Opened) -> None:
    text = noise(100)
    fingerprint = files.fingerprint(text[:1024])
    (tmp_path / "new.jsonl").write_bytes(text)
    opened = source(tmp_path)
    opened.resume({"gone-1": Position(61, 1, fingerprint), "gone-2": Position(122, 2, fingerprint)})
    assert list(opened.partitions()) == ["gone-1"]
    assert len(payloads(opened)) == 99


def test_of_two_copies_the_first_is_the_renamed_file(tmp_path: Path, source: Opened) -> None:
    text = noise(100)
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(text)
    opened = source(tmp_path)
    opened.resume({"gone": Position(61, 1, files.fingerprint(text[:1024]))})
    assert list(opened.partitions()) == ["gone", str(tmp_path / "b.jsonl")]


def test_positions_of_other_logs_are_left_aside(tmp_path: Path, source: Opened) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(name.encode() + noise(30))
    positions = ends(answers(source(tmp_path))) | {"llm.exchanges-0": Position(17, 0, "topic-x")}
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "c.jsonl").write_bytes(b"c" + noise(30))
    opened = source(tmp_path)
    opened.resume(positions)
    assert list(opened.partitions()) == [str(tmp_path / "b.jsonl"), str(tmp_path / "c.jsonl")]
    assert len(payloads(opened)) == 30


def test_peeking_before_resuming_does_no_harm(tmp_path: Path, source: Opened) -> None:
    log = tmp_path / "a.jsonl"
    log.write_bytes(noise(100))
    found = answers(source(log), limit=60)
    opened = source(log)
    opened.peek(str(log), 21)
    opened.resume(ends(found[:1]))
    assert messages(answers(opened)) == messages(found[1:])


# ---- the last line --------------------------------------------------------------------------------------------------


@packed
@pytest.mark.parametrize("last", [b'{"a":1', b'{"a":1}', b"no json", b"12"])
def test_a_finished_file_needs_no_last_newline(
    tmp_path: Path, source: Opened, suffix: str, pack: Pack, last: bytes
) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(pack(b"one\n" + last))
    (raw,) = answers(source(tmp_path))
    assert messages([raw]) == [(0, 1, b"one"), (4, 2, last)]
    assert (raw.end.offset, raw.end.line) == (4 + len(last), 2)


@packed
@pytest.mark.parametrize("last", [b'{"a":1', b'{"a":"\xc3', b"no json", b"12", b"   ", b"[" * 5_000, b"x" * 300])
def test_a_growing_file_keeps_an_unfinished_line_for_later(
    tmp_path: Path, source: Opened, suffix: str, pack: Pack, last: bytes
) -> None:
    log = tmp_path / f"a.{suffix}"
    log.write_bytes(pack(b"one\n" + last))
    opened = source(log, growing=True, max_record_bytes=250)
    (raw,) = answers(opened)
    assert messages([raw]) == [(0, 1, b"one")]
    assert (raw.end.offset, raw.end.line, raw.rejects) == (4, 1, [])
    assert list(opened.partitions().values()) == [True]
    log.write_bytes(pack(b'one\n{"b":2}\nthree\n'))  # as if the line had been written since
    later = source(log, growing=True)
    with pytest.raises(ValueError, match="another beginning"):
        later.resume({str(log): raw.end})
    log.write_bytes(pack(b"one\n" + last + b'!"}\nthree\n'))
    later = source(log, growing=True)
    later.resume({str(log): raw.end})
    assert messages(answers(later)) == [(4, 2, last + b'!"}'), (4 + len(last) + 4, 3, b"three")]


@packed
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b" \n"])
def test_a_growing_file_gives_a_whole_last_record(
    tmp_path: Path, source: Opened, suffix: str, pack: Pack, newline: bytes
) -> None:
    log, record = tmp_path / f"a.{suffix}", b'{"a":[1,2]}'
    log.write_bytes(pack(b"one\n" + record))
    (first,) = answers(source(log, growing=True))
    assert messages([first]) == [(0, 1, b"one"), (4, 2, record)]
    log.write_bytes(pack(b"one\n" + record + newline + b"three\n"))
    later = source(log, growing=True)
    later.resume({str(log): first.end})
    assert messages(answers(later)) == [(4 + len(record + newline), 3, b"three")]


# ---- standard input -------------------------------------------------------------------------------------------------


def test_standard_input_is_a_partition(source: Opened) -> None:
    opened = source("-", "-", stdin=b"one\n\ntwo")
    assert opened.partitions() == {"-": False}
    assert opened.peek("-", 1).payloads == [b"one"]
    assert messages(answers(opened)) == [(0, 1, b"one"), (5, 3, b"two")]
    assert opened.partitions() == {"-": True}


def test_standard_input_is_not_touched_before_it_is_read() -> None:
    class Untouchable(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError(size)

    opened = Files(FilesSettings(kind="files", paths=["-"]), stdin=Untouchable())
    opened.close()


def test_standard_input_is_taken_up_where_it_was_left(source: Opened) -> None:
    text = noise(5_000)
    first = source("-", stdin=text).poll(["-"], 4_000)
    second = source("-", stdin=text)
    second.resume(ends(first))
    assert messages(first) + messages(answers(second)) == messages(answers(source("-", stdin=text)))
    with pytest.raises(ValueError, match=r"^-: the position at byte 244000 belongs to a file with another beginning"):
        source("-", stdin=b"x" + text).resume(ends(first))


def test_standard_input_cannot_be_resumed_once_read(source: Opened) -> None:
    opened = source("-", stdin=b"one\ntwo\n")
    opened.peek("-", 1)
    with pytest.raises(ValueError, match="standard input cannot be resumed any more"):
        opened.resume({})
    assert payloads(opened) == [b"one", b"two"]


def test_an_empty_standard_input_ends_at_the_first_poll(source: Opened) -> None:
    opened = source("-", stdin=b"")
    assert opened.poll(["-"], 10) == []
    assert opened.partitions() == {"-": True}


def test_standard_input_stays_open_beside_many_files(
    tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_OPEN", 2)
    for number in range(5):
        (tmp_path / f"{number}.jsonl").write_bytes(b"file\n" * 3)
    opened = source("-", tmp_path, stdin=b"input\n" * 3)
    for _ in range(3):
        for name in opened.partitions():
            assert opened.poll([name], 1)[0].payloads == [b"input" if name == "-" else b"file"]
    assert all(opened.partitions().values())


# ---- many files -----------------------------------------------------------------------------------------------------


@packed
def test_any_number_of_files_takes_a_bounded_number_of_handles(
    tmp_path: Path, source: Opened, suffix: str, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, lines = 150, 100
    monkeypatch.setattr(cutting, "FIRST_BLOCK", 64)  # so that no file is read to its end by peeking
    monkeypatch.setattr(cutting, "BLOCK", 64)
    for each in range(number):
        (tmp_path / f"{each:03}.{suffix}").write_bytes(pack(b"%d\n" % each * lines))

    def handles() -> int:
        links = Path("/proc/self/fd").iterdir()
        return sum(str(link.readlink()).startswith(str(tmp_path)) for link in links if link.is_symlink())

    opened = source(tmp_path)
    assert handles() == 0
    for name in opened.partitions():
        assert len(opened.peek(name, 21).payloads) == 21
    assert 0 < handles() <= files.MAX_OPEN
    got = dict.fromkeys(opened.partitions(), 0)
    while unfinished := [name for name, ended in opened.partitions().items() if not ended]:
        for name in unfinished:
            (raw,) = opened.poll([name], 11)
            assert set(raw.payloads) == {str(int(Path(name).name.split(".")[0])).encode()}
            got[name] += len(raw.payloads)
        assert handles() <= files.MAX_OPEN
    assert set(got.values()) == {lines}
    assert handles() == 0


def test_compressed_files_stay_open_where_plain_ones_can_be_closed(
    tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_OPEN", 3)
    names = [f"{number}.jsonl.gz" for number in range(2)] + [f"{number}.jsonl" for number in range(4)]
    for name in names:
        (tmp_path / name).write_bytes((compress_gzip if name.endswith("gz") else bytes)(noise(10)))
    opened = source(*(tmp_path / name for name in names))
    for name in opened.partitions():
        opened.poll([name], 1)
    assert [Path(name).name for name in opened._open] == ["0.jsonl.gz", "1.jsonl.gz", "3.jsonl"]


def test_the_file_not_used_for_longest_is_closed(
    tmp_path: Path, source: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_OPEN", 2)
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(noise(10))
    opened = source(tmp_path)
    for name in "abac":
        opened.poll([str(tmp_path / f"{name}.jsonl")], 1)
    assert [Path(name).stem for name in opened._open] == ["a", "c"]


def test_closing_lets_go_of_all_files(tmp_path: Path, source: Opened) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(noise(10))
    opened = source(tmp_path)
    for name in opened.partitions():
        opened.poll([name], 1)
    opened.close()
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in links if str(link.readlink()).startswith(str(tmp_path))]
    opened.close()
