"""The command line from end to end: every kind of bad input, the files that come out, exit codes, interruption."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
import zstandard

import monitor.__main__ as command_line
from monitor import app as wiring
from monitor import pipeline, terminal
from monitor.model import AlertChange, Position, Reading, Reject
from monitor.rows import reading_row
from monitor.settings import HOUR, parse_duration
from monitor.store import Store

FILES = {"alerts.jsonl", "driftd.db", "readings.jsonl", "rejects.jsonl", "summary.json", "triggers.jsonl"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CONFIG = "windows: [12m]\nreference: {size: 2h}\nsignals: {embedding: false}\n"
GOOD = 100
"""Records of an ordinary log, one in ten seconds."""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def driftd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, as its script would, in a pipe 120 characters wide."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["driftd", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            command_line.main()
        output = capsys.readouterr()
        code = done.value.code
        assert code is None or isinstance(code, int)
        return Result(code or 0, output.out, output.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "driftd.yaml"
    path.write_text(CONFIG)
    return path


def record(number: int, **other: object) -> bytes:
    """A line of a log; a field given as `...` is left out."""
    seconds = 10 * number
    fields: dict[str, object] = {
        "id": f"r{number}",
        "ts": f"2026-11-02T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z",
        "model": "bot",
        "prompt": "What is the weather like?",
        "response": "It is raining, I am told.",
        "status": "ok",
    }
    return json.dumps({name: value for name, value in (fields | other).items() if value is not ...}).encode()


def log(*lines: bytes, at: int = 30) -> bytes:
    """An ordinary log with `lines` among its records."""
    ordinary = [record(number) for number in range(GOOD)]
    return b"\n".join([*ordinary[:at], *lines, *ordinary[at:]]) + b"\n"


def strict(line: str | bytes) -> Any:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(line, parse_constant=refuse)


def rows(path: Path) -> list[dict[str, Any]]:
    return [strict(line) for line in path.read_bytes().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = strict((out / "summary.json").read_text())
    return found


def test_what_a_terminal_would_obey_is_shown_as_escapes(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out, name = tmp_path / "log.jsonl", tmp_path / "out", "b\x1b[31mot\x1b]0;title\x07"
    path.write_bytes(b"\n".join(record(number, model=name, **{"fi\x1beld": 1}) for number in range(GOOD)) + b"\n")
    runs = [driftd("replay", "-c", config, "--out", out, path), driftd("status", out), driftd("explain", "a", out)]
    assert not any("\x1b" in done.out + done.err or "\x07" in done.out + done.err for done in runs)
    assert "fi\\x1beld" in runs[0].out


# ---- bad records: counted by reason, kept aside, and the run goes on ------------------------------------------------

LARGE = record(30, id="large", prompt="x" * 10_000_000)
REJECTED: dict[str, tuple[bytes, str, str]] = {
    "broken JSON": (b'{"id": "x", "ts": ', "unparseable", "Expecting value at column 19"),
    "no object": (b'["a"]', "unparseable", "Expected `object`"),
    "NUL byte": (record(30).replace(b"rain", b"ra\0n"), "unparseable", "a NUL byte at byte "),
    "not UTF-8": (record(30).replace(b"rain", b"ra\xffn"), "unparseable", "not UTF-8 at byte "),
    "lone surrogate": (
        record(30).replace(b"rain", b"\\ud83d"),
        "unparseable",
        "half of a surrogate pair is escaped at",
    ),
    "text that is a number": (record(30, prompt=5), "bad_field", "$.prompt: Expected `str | null`, got `int`"),
    "labels that are a list": (record(30, labels=["a"]), "bad_field", "$.labels: "),
    "a negative amount": (record(30, latency_seconds=-1), "bad_field", "$.latency_seconds: "),
    "feedback out of its range": (record(30, feedback=7), "bad_field", "$.feedback: "),
    "an unknown kind": (record(30, kind="secret-kind"), "bad_field", "$.kind: "),
    "no ts": (record(30, ts=...), "no_ts", "$.ts: "),
    "a bad ts": (record(30, ts="soon"), "bad_ts", "$.ts: "),
    "10 MB": (LARGE, "oversized", f"{len(LARGE)} bytes, more than max_record_bytes (8388608)"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_bad_record_is_kept_aside_with_its_reason(name: str, tmp_path: Path, config: Path, driftd: Run) -> None:
    line, reason, detail = REJECTED[name]
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log(line))
    done = driftd("replay", "-c", config, "--out", out, path)
    assert done.code == 0, done.err
    (kept,) = rows(out / "rejects.jsonl")
    told = kept.pop("detail")
    assert told.startswith(detail)
    assert kept == {
        "reason": reason,
        "source": str(path),
        "position": path.read_bytes().index(line),
        "size": len(line),
        "sha256": sha256(line).hexdigest(),
        "line": 31,
        "excerpt": None if reason == "oversized" else line.decode(errors="replace")[:200],
    }
    assert summary(out)["records"] == {"counted": GOOD, reason: 1}
    assert f"{reason} 1" in done.out
    assert "secret-kind" not in told  # what was wrong is said without what it was


COUNTED: dict[str, tuple[list[bytes], dict[str, int]]] = {
    "no id": ([record(30, id=...)], {"counted": 101}),
    "unknown fields": ([record(30, id="new", promt="hi", extra=[1])], {"counted": 101}),
    "empty text": ([record(30, id="new", prompt="", response="")], {"counted": 101}),
    "a million characters": ([record(30, id="new", prompt="ü" * 1_000_000)], {"counted": 101}),
    "an escaped NUL": ([record(30, id="new", prompt="a\0b")], {"counted": 101}),
    "nothing but a time": ([b'{"ts": "2026-11-02T00:05:00Z"}'], {"counted": 101}),
    "blank lines": ([b"", b"  \t", b"\r"], {"counted": 100}),
    "an id again": ([record(29), record(29)], {"counted": 100, "duplicate": 2}),
    "an id again, with another text": ([record(29, prompt="Hm?")], {"counted": 100, "conflicting": 1}),
    "a time that goes back": ([record(3, id="new")], {"counted": 100, "late": 1}),
    "a time a century ahead": ([record(30, id="new", ts="2126-11-02T00:05:00Z")], {"counted": 100, "early": 1}),
    "a time a century ago": ([record(30, id="new", ts="1926-11-02T00:05:00Z")], {"counted": 100, "late": 1}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_an_odd_record_is_counted_by_its_fate(name: str, tmp_path: Path, config: Path, driftd: Run) -> None:
    lines, fates = COUNTED[name]
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log(*lines))
    done = driftd("replay", "-c", config, "--out", out, path)
    assert done.code == 0, done.err
    found = summary(out)
    assert found["records"] == fates
    assert sum(fates.values()) == GOOD + sum(bool(line.strip()) for line in lines)
    assert found["generated_ids"] == (name in {"no id", "nothing but a time"})
    assert rows(out / "rejects.jsonl") == []
    if name == "unknown fields":
        assert f"field 'promt' is not one of the format's: it is not read (first seen at {path}:line 31)" in done.out


FAR_OFF = [
    (0, "2126-11-02T00:00:00Z", "early"),
    (GOOD, "2126-11-02T00:00:00Z", "early"),
    (0, "1926-11-02T00:00:00Z", "stale"),
    (GOOD, "1926-11-02T00:00:00Z", "late"),
]


@pytest.mark.parametrize("far_off", FAR_OFF)
def test_a_time_far_off_at_an_end_of_a_log(
    far_off: tuple[int, str, str], tmp_path: Path, config: Path, driftd: Run
) -> None:
    at, when, fate = far_off
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log(record(0, id="new", ts=when), at=at))
    assert driftd("replay", "-c", config, "--out", out, path).code == 0
    assert summary(out)["records"] == {"counted": GOOD, fate: 1}


def test_all_kinds_of_bad_records_in_one_log_add_up(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    odd = [line for lines, _ in COUNTED.values() for line in lines]
    path.write_bytes(log(*(line for line, _, _ in REJECTED.values()), *odd))
    read = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    assert driftd("replay", "-c", config, "--out", out, path).code == 0
    records = summary(out)["records"]
    kept = rows(out / "rejects.jsonl")
    assert sum(records.values()) == read
    for reason in {reason for _, reason, _ in REJECTED.values()}:
        assert records[reason] == sum(row["reason"] == reason for row in kept)
    assert {row["reason"] for row in kept if row["excerpt"] is None} == {"oversized"}
    assert len(kept) == len(REJECTED)


# ---- bad files and folders ------------------------------------------------------------------------------------------


def packed(data: bytes, suffix: str) -> bytes:
    return gzip.compress(data) if suffix == "gz" else zstandard.compress(data)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_log_that_is_cut_short_counts_up_to_there(
    suffix: str, tmp_path: Path, config: Path, driftd: Run
) -> None:
    whole, out = packed(log(), suffix), tmp_path / "out"
    first = packed(log(), suffix)
    path = tmp_path / f"log.jsonl.{suffix}"
    path.write_bytes(first + whole[: len(whole) // 2])
    done = driftd("replay", "-c", config, "--out", out, path)
    (kept,) = rows(out / "rejects.jsonl")
    assert done.code == 0
    assert kept["reason"] == "unreadable"
    assert kept["source"] == str(path)
    assert "data is cut short" in kept["detail"]
    records = summary(out)["records"]
    assert records["counted"] == GOOD
    assert records["unreadable"] == 1


def test_an_empty_file_is_no_error(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.touch()
    assert driftd("replay", "-c", config, "--out", out, path).code == 0
    assert sum(summary(out)["records"].values()) == 0
    assert {file.name for file in out.iterdir()} >= FILES


NO_LOGS = {
    "a folder without logs": ("folder", "folder holds no file that ends in .jsonl, .jsonl.gz, .jsonl.zst"),
    "no such file": ("none.jsonl", "none.jsonl does not exist"),
    "a glob of nothing": ("none-*.jsonl", "none-*.jsonl matches no file"),
}


@pytest.mark.parametrize("name", NO_LOGS)
def test_logs_that_are_not_there(name: str, tmp_path: Path, config: Path, driftd: Run) -> None:
    path, message = NO_LOGS[name]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    done = driftd("replay", "-c", config, "--out", tmp_path / "out", tmp_path / path)
    assert done == Result(2, "", f"driftd: {tmp_path}/{message}\n")
    assert not (tmp_path / "out").exists()


def test_all_logs_that_are_not_there_are_named(tmp_path: Path, driftd: Run) -> None:
    done = driftd("replay", "--out", tmp_path / "out", tmp_path / "a", tmp_path / "b")
    assert [line.split()[1] for line in done.err.splitlines()] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_a_log_without_a_name(tmp_path: Path, driftd: Run) -> None:
    assert driftd("replay", "--out", tmp_path / "out", "") == Result(2, "", "driftd: an empty LOG names no file\n")
    assert driftd("replay", "--out", tmp_path / "out") == Result(2, "", "driftd: no LOG to replay\n")


def test_an_out_that_is_not_empty(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    done = driftd("replay", "-c", config, "--out", out, path)
    assert done.code == 2
    assert done.err.startswith(f"driftd: {out} is not empty")
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    assert driftd("replay", "--out", path, path).err == f"driftd: {path} is not a folder\n"


def test_an_out_of_an_earlier_replay(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    assert driftd("replay", "-c", config, "--out", out, path).code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    done = driftd("replay", "-c", config, "--out", out, path)
    assert done.code == 2
    assert "store of an earlier replay" in done.err
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_another_configuration_than_the_store_was_made_with(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    assert driftd("replay", "-c", config, "--out", out, "--resume", path).code == 0
    config.write_text(CONFIG + "skew: 1m\n")
    done = driftd("replay", "-c", config, "--out", out, "--resume", path)
    assert done.code == 2
    assert "was made with another configuration (skew changed)" in done.err


def test_a_log_that_is_another_than_before(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    assert driftd("replay", "-c", config, "--out", out, "--resume", path).code == 0
    path.write_bytes(record(7, id="other") + b"\n" + log())
    done = driftd("replay", "-c", config, "--out", out, "--resume", path)
    assert done.code == 2
    assert re.match(rf"driftd: {path}: the position at byte \d+ belongs to a file with another beginning\n", done.err)


def test_a_store_that_is_in_use(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    out.mkdir()
    with (out / "driftd.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = driftd("replay", "-c", config, "--out", out, "--resume", path)
    assert done == Result(3, "", f"driftd: {out}/driftd.db is in use by another driftd process\n")


def test_a_store_that_is_something_else(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    out.mkdir()
    (out / "driftd.db").write_text("hello, I am no database at all" * 100)
    for command in (["replay", "-c", config, "--out", out, "--resume", path], ["status", out]):
        done = driftd(*command)
        assert done.code == 3
        assert done.err.startswith(f"driftd: {out}/driftd.db is not a driftd store, or is damaged: ")


# ---- bad configurations ---------------------------------------------------------------------------------------------

MISTAKES = {
    "latenes: 5s": "1: latenes: unknown key; did you mean 'lateness'?",
    "skew: 1m\nskew: 2m": '2: duplicate key "skew"',
    "sources: [{kind: kafak}]": "1: sources[0].kind: unknown kind 'kafak'; there is 'files' or 'kafka' or 'push'",
    "windows: [1h]\nreference: {size: 2h}": "1: windows[0]: a window of 1h needs a reference.size of 6h, not 2h",
}


@pytest.mark.parametrize("text", MISTAKES)
@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_bad_configuration(text: str, command: str, tmp_path: Path, config: Path, driftd: Run) -> None:
    config.write_text(text)
    arguments = ["--out", tmp_path / "out", "log.jsonl"] if command == "replay" else []
    done = driftd(command, "-c", config, *arguments)
    assert done == Result(2, "", f"driftd: {config}:{MISTAKES[text]}\n")
    assert not (tmp_path / "out").exists()


def test_all_mistakes_of_a_configuration_are_told(config: Path, driftd: Run) -> None:
    config.write_text("skew: soon\nlatenes: 1s\nwindows: [5m, 7m]\n")
    assert [line.split(": ")[1] for line in driftd("check", "-c", config).err.splitlines()] == [
        f"{config}:{line}" for line in (1, 2, 3)
    ]


def test_a_good_configuration(config: Path, driftd: Run) -> None:
    assert driftd("check", "-c", config) == Result(0, f"{config}: ok\n", "")


def test_a_reference_that_turns_out_too_short_is_said(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    config.write_text("windows: [12m]\nreference: {until: 2026-11-02T00:05:00Z}\n")
    assert driftd("replay", "-c", config, "--out", out, path).code == 0
    assert any("too short for a window of 12m" in notice for notice in summary(out)["notices"])


def test_a_log_shorter_than_its_learning_period_is_said(tmp_path: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    done = driftd("replay", "--out", out, path)
    expected = "reference: bot learns until 2026-11-03T00:00:00.000Z; nothing of it is judged before"
    assert expected in summary(out)["notices"]
    assert f"note: {expected}" in done.out


# ---- what comes out -------------------------------------------------------------------------------------------------

NOISY = CONFIG.replace("2h", "72m") + (
    "rules:\n"
    "- {name: AnyDrift, signal: '*', on: drift}\n"
    "- {name: Busy, signal: volume, on: {value: count, above: 5}, window: 12m, for: 2m}\n"
)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A replay long enough to be judged, with a rejected record."""
    folder = tmp_path_factory.mktemp("replayed")
    path, out, noisy = folder / "log.jsonl", folder / "out", folder / "noisy.yaml"
    noisy.write_text(NOISY)
    records = [record(number, latency_seconds=1 + number % 7, session=f"s{number // 3}") for number in range(900)]
    path.write_bytes(b"\n".join([*records, b"{"]) + b"\n")
    command = [sys.executable, "-m", "monitor", "replay", "-c", str(noisy), "--out", str(out), str(path)]
    wide = {**os.environ, "COLUMNS": "120"}
    wide.pop("FORCE_COLOR", None)
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=wide)
    return out, Result(done.returncode, done.stdout, done.stderr)


def test_the_files_are_all_there_with_all_fields(replayed: tuple[Path, Result]) -> None:
    out, done = replayed
    assert done.code == 1, done.err
    assert {file.name for file in out.iterdir()} >= FILES
    assert not list(out.glob("*.part"))
    for name, kind in {"readings": Reading, "alerts": AlertChange, "rejects": Reject}.items():
        found = rows(out / f"{name}.jsonl")
        assert found
        assert {tuple(row) for row in found} == {kind.__struct_fields__}
    assert (out / "triggers.jsonl").read_bytes() == b""
    said = summary(out)
    assert set(said) >= {"records", "windows", "alerts", "thresholds", "seconds", "records_per_second", "notices"}
    assert said["records"] == {"counted": 900, "unparseable": 1}
    assert said["windows"] == ["12m"]
    assert said["alerts"]["firing"] == 1
    assert {"stream", "segment"} >= set(said["thresholds"]["rate"]["12m"])


def test_times_are_iso_and_numbers_are_json(replayed: tuple[Path, Result]) -> None:
    out, _ = replayed
    for row in rows(out / "readings.jsonl"):
        assert TIME.fullmatch(row["at"])
        assert TIME.fullmatch(row["window_start"])
        assert row["window"] == "12m"
        assert row["verdict"] in {"ok", "drift", "insufficient", "learning"}
    assert {row["verdict"] for row in rows(out / "readings.jsonl")} > {"learning"}
    for row in rows(out / "alerts.jsonl"):
        assert TIME.fullmatch(row["at"])
        assert TIME.fullmatch(row["started_at"])
        assert row["state"] in {"pending", "firing", "resolved"}


def test_the_table_names_what_fired(replayed: tuple[Path, Result]) -> None:
    out, done = replayed
    (fired,) = [row for row in rows(out / "alerts.jsonl") if row["state"] == "firing" and row["reason"] != "joined"]
    assert re.search(rf"{fired['at'][:19]}Z\s+Busy\s+firing\s+bot\s+volume", done.out)
    assert "901 records in" in done.out
    assert f"written to {out}" in done.out


def test_a_backtest_says_what_would_have_been_paged_and_keeps_nothing(
    tmp_path: Path, replayed: tuple[Path, Result], driftd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder, before = replayed[0].parent, sorted(replayed[0].parent.iterdir())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = driftd("backtest", "-c", folder / "noisy.yaml", folder / "log.jsonl")
    assert done.code == 1, done.err
    assert re.search(r"bot\s+Busy\s+bot: count of volume is", done.out)
    assert re.search(
        r"1 alerts on 1 pages, from 901 records; of alerts on drift at most [\d.e-]+ are expected by chance, "
        r"with a budget of 1 in 30d",
        " ".join(done.out.split()),
    )
    assert sorted(folder.iterdir()) == before
    assert not list(tmp_path.glob("driftd-backtest-*"))
    assert driftd("backtest", "-c", folder / "noisy.yaml", folder / "none.jsonl").code == 2


# ---- what a log or a store says of what is to come ------------------------------------------------------------------

WATCHFUL = NOISY + (
    "- {name: Failing, signal: error, on: {value: rate, above: 0.2}, window: 12m, min_records: 50}\n"
    "- {name: Slow, signal: latency_seconds, on: {value: quantile, q: 0.9, above: 9}, window: 12m}\n"
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A configuration, a log whose records are units, and the folder of its replay."""
    folder = tmp_path_factory.mktemp("watched")
    config, path, out = folder / "watchful.yaml", folder / "log.jsonl", folder / "out"
    config.write_text(WATCHFUL)
    records = [record(n, latency_seconds=1 + n % 7, status="ok" if n % 9 else "bad") for n in range(900)]
    path.write_bytes(b"\n".join(records) + b"\n")
    command = [sys.executable, "-m", "monitor", "replay", "-c", str(config), "--out", str(out), str(path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    return config, path, out


def test_check_says_of_a_log_and_of_a_store_what_would_be_seen_and_keeps_nothing(
    tmp_path: Path, watched: tuple[Path, Path, Path], driftd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path, out = watched

    def files() -> dict[Path, int]:
        found = [file for file in path.parent.rglob("*") if not file.name.endswith(("-shm", "-wal"))]  # SQLite's own
        return {file: file.stat().st_mtime_ns for file in found if file.is_file()}

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = files()
    of_log, of_store, of_file = (driftd("check", "-c", config, log) for log in (path, out, out / "driftd.db"))
    assert of_log.code == 0, of_log.err
    assert of_log == of_store == of_file
    assert files() == before
    assert not list(tmp_path.iterdir())
    *lines, last = of_log.out.splitlines()
    assert last == f"{config}: ok"
    assert max(map(len, lines)) <= 80
    text = "\n".join(map(str.rstrip, lines))
    for row in (
        r"AnyDrift on bot: 6 records a minute",
        r"signal +kind +matters +12m +half in +double in",
        r"error +rate +0\.028 +\S+ +not in 8h32m +\S.*",
        r"prompt_language +category +0\.05 +0\.2\d +7\d0 in 2h\S* +4\dm",
        r"Busy: count above 5 in 12m, at the latest after 14m",
        r"bot +volume +72 +5 +72",
        r"bot +error +0\.111 +0\.278 +72",
        r"bot +latency_seconds +7\S* +never below 100 +72",
        r"all +12m +72 +24 +216",
        r"SilentStream on bot: after 12m without a record",
    ):
        assert re.search(rf"(?m)^{row}$", text), row


def test_check_wants_something_to_check(driftd: Run) -> None:
    said = "driftd: nothing to check; give a configuration (-c FILE), or a LOG\n"
    assert driftd("check") == Result(2, "", said)


def test_check_says_what_a_signal_lacks(tmp_path: Path, driftd: Run) -> None:
    path, config = tmp_path / "log.jsonl", tmp_path / "driftd.yaml"
    path.write_bytes(b"\n".join(record(3 * number) for number in range(200)) + b"\n")
    config.write_text(CONFIG.replace("2h", "72m"))
    done = driftd("check", "-c", config, path)
    assert done.code == 0
    assert "lacks 240 units in the reference: it has 144" in " ".join(done.out.split())


UNTOLD = {
    "no such log": ({}, CONFIG, "none.jsonl", "none.jsonl does not exist"),
    "an empty log": ({"a.jsonl": b""}, CONFIG, "a.jsonl", "there is no record that counts (the log is empty)"),
    "a log of rejects": ({"a.jsonl": b"{\n"}, CONFIG, "a.jsonl", "no record that counts (unparseable 1)"),
    "a log too short to learn": (
        {"a.jsonl": log()},
        CONFIG,
        "a.jsonl",
        "there is no reference that windows are held against; the log ends at 2026-11-02T00:17:00.000Z",
    ),
    "a reference too short": (
        {"a.jsonl": log()},
        "windows: [12m]\nreference: {until: 2026-11-02T00:05:00Z}\n",
        "a.jsonl",
        "too short for a window of 12m",
    ),
    "a mistake": ({"a.jsonl": log()}, "windows: [soon]\n", "a.jsonl", "driftd.yaml:1"),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_check_says_why_it_can_say_nothing_of_a_log(name: str, tmp_path: Path, config: Path, driftd: Run) -> None:
    files, text, path, message = UNTOLD[name]
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    config.write_text(text)
    done = driftd("check", "-c", config, tmp_path / path)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_check_refuses_a_store_that_was_made_otherwise_or_is_not_alone(
    tmp_path: Path, replayed: tuple[Path, Result], driftd: Run
) -> None:
    out, config = replayed[0], tmp_path / "other.yaml"
    config.write_text(NOISY.replace("12m", "10m"))
    done = driftd("check", "-c", config, out)
    assert (done.code, done.out) == (2, "")
    assert "made with another configuration (windows changed)" in done.err
    assert driftd("check", "-c", config, out, out.parent / "log.jsonl").code == 2
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "driftd.db").write_bytes(b"no database at all")
    assert driftd("check", "-c", config, tmp_path / "broken").code == 3


def test_check_of_a_store_takes_other_rules_budgets_and_what_matters(
    tmp_path: Path, watched: tuple[Path, Path, Path], driftd: Run
) -> None:
    out, config = watched[2], tmp_path / "other.yaml"
    config.write_text(
        CONFIG.replace("2h", "72m").replace("embedding: false", "embedding: false, matters: {response_chars: 0.5}")
        + "false_alarms: {at_most: 100, per: 1d}\nrules:\n"
        "- {name: Chars, signal: response_chars, on: drift}\n"
        "- {name: Soon, signal: prompt_language, on: drift}\n"
        "- {name: Late, signal: prompt_language, on: drift, for: 1h}\n"
    )
    done = driftd("check", "-c", config, out)
    assert done.code == 0
    assert re.search(r"(?m)^response_chars +numeric +0\.5 ", done.out)
    assert "AnyDrift" not in done.out
    rows = re.findall(r"(?m)^prompt_language .* (\d+) in (\w+) +(\w+) *$", done.out)
    (soon, late) = ([int(records), parse_duration(half), parse_duration(most)] for records, half, most in rows)
    assert [b - a for a, b in zip(soon, late, strict=True)][1:] == [HOUR, HOUR]
    assert late[0] > soon[0]


def test_status_says_what_was_counted(replayed: tuple[Path, Result], driftd: Run) -> None:
    out, _ = replayed
    for place in (out, out / "driftd.db"):
        done = driftd("status", place)
        assert done.code == 0
        assert re.search(r"(?m)^records +901$", done.out)
        assert re.search(r"(?m)^  unparseable +1$", done.out)
        assert re.search(r"(?m)^watermark +2026-11-02T02:29:20.000Z$", done.out)
        assert re.search(r"Busy\s+firing\s+warning\s+bot\s+volume", done.out)


def test_status_of_no_store(tmp_path: Path, driftd: Run) -> None:
    assert driftd("status", tmp_path) == Result(2, "", f"driftd: there is no store at {tmp_path}/driftd.db\n")


def test_a_store_is_copied_and_put_back(replayed: tuple[Path, Result], tmp_path: Path, driftd: Run) -> None:
    out, _ = replayed
    copy, back = tmp_path / "copy.db", tmp_path / "back" / "driftd.db"
    back.parent.mkdir()
    assert driftd("backup", out, copy) == Result(0, f"{out}/driftd.db is copied to {copy}\n", "")
    assert driftd("backup", out, copy) == Result(3, "", f"driftd: {copy} exists already; give the name of a new file\n")
    assert driftd("restore", copy, back) == Result(0, f"{back} is as it was copied to {copy}\n", "")
    assert driftd("status", back).out == driftd("status", out).out
    again = driftd("restore", copy, back)
    assert (again.code, again.err) == (3, f"driftd: {back} exists already; --replace puts the backup in its place\n")
    (tmp_path / "other").write_text("no store")
    assert driftd("restore", tmp_path / "other", tmp_path / "x.db").code == 3
    assert driftd("backup", tmp_path / "nothing", tmp_path / "y").code == 2


def test_standard_input_is_a_log(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "replay", "-c", config, "--out", out, "-"],
        input=log(b"{"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert summary(out)["records"] == {"counted": GOOD, "unparseable": 1}
    (kept,) = rows(out / "rejects.jsonl")
    assert (kept["source"], kept["line"]) == ("-", 31)


# ---- usage, failure, interruption -----------------------------------------------------------------------------------


def test_help_and_version(driftd: Run) -> None:
    assert driftd("--help").code == 0
    assert re.fullmatch(r"driftd \d+\.\d+.*\n", driftd("--version").out)
    for command in ("replay", "check", "status"):
        done = driftd(command, "--help")
        assert done.code == 0
        assert "Exit: 0" in done.out


@pytest.mark.parametrize("arguments", [["replay", "x.jsonl"], ["run"], ["frobnicate"], ["status", "--loud", "x"]])
def test_wrong_usage(arguments: list[str], driftd: Run) -> None:
    done = driftd(*arguments)
    assert done.code == 2
    assert "Usage: driftd" in done.err


@pytest.mark.parametrize("error", [ValueError("boom"), RuntimeError("boom"), MemoryError()])
def test_what_nobody_expected_is_3(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driftd: Run
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(wiring, "replay", fail)
    done = driftd("replay", "--out", tmp_path / "out", "x.jsonl")
    assert done.code == 3
    assert done.err.startswith(f"driftd: failed: {type(error).__name__}: ")
    monkeypatch.setenv("DRIFTD_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["driftd", "replay", "--out", "out", "x.jsonl"])
    with pytest.raises(type(error)):
        command_line.main()


def test_a_disk_that_cannot_be_written_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driftd: Run) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/data/out")

    monkeypatch.setattr(wiring, "replay", fail)
    done = driftd("replay", "--out", tmp_path / "out", "x.jsonl")
    assert done == Result(3, "", "driftd: /data/out: No space left on device\n")


def test_an_interrupted_replay_keeps_what_was_committed(tmp_path: Path, config: Path, driftd: Run) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "out"
    path.write_bytes(log())
    command = [sys.executable, "-m", "monitor", "replay", "-c", str(config), "--out", str(out), "--resume"]
    assert subprocess.run([*command, path], capture_output=True, check=False).returncode == 0
    before = (out / "summary.json").stat().st_mtime_ns
    heeds = ["env", "--default-signal=INT"]  # tests that run in parallel ignore it, and so would what they start
    with subprocess.Popen([*heeds, *command, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin is not None
        running.stdin.write(b" " * 300_000)  # more than a pipe holds: it is being read, and waited for more
        running.stdin.flush()
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        told = running.stderr.read().decode()
    assert running.returncode == 130, told
    assert told.splitlines()[-1] == f"driftd: interrupted; {out} keeps what was committed, and the same command goes on"
    assert (out / "summary.json").stat().st_mtime_ns == before
    done = driftd("replay", "-c", config, "--out", out, "--resume")
    assert done.code == 0, done.err
    assert summary(out)["records"] == {"counted": GOOD}


def test_a_run_without_resume_that_was_stopped_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path, driftd: Run
) -> None:
    path, out, whole = tmp_path / "log.jsonl", tmp_path / "out", tmp_path / "whole"
    path.write_bytes(log())
    assert driftd("replay", "-c", config, "--out", whole, path).code == 0
    commits: list[int] = []
    commit = Store.commit

    def interrupt(store: Store, checkpoint: Any) -> None:
        commit(store, checkpoint)
        commits.append(sum(checkpoint.counts.values()))
        if len(commits) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", interrupt)
        patched.setattr(pipeline, "COMMIT_SECONDS", 0)
        patched.setattr(wiring, "Pipeline", partial(pipeline.Pipeline, batch=20))
        done = driftd("replay", "-c", config, "--out", out, path)
    assert done.code == 130
    assert "with --resume goes on" in done.err
    assert 0 < commits[-1] < GOOD
    assert driftd("replay", "-c", config, "--out", out, "--resume", path).code == 0
    assert driftd("replay", "-c", config, "--out", out, "--resume").code == 0
    for name in ("readings.jsonl", "alerts.jsonl", "rejects.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert summary(out)["records"] == summary(whole)["records"]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_the_bar_knows_how_far_it_is_where_files_are_plain(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(b"x" * 1000)
    assert terminal._sizes([str(path)]) == ({str(path): 1000} if suffix == "jsonl" else None)
    assert terminal._sizes(["-"]) is None
    seen: Any = SimpleNamespace(
        source=SimpleNamespace(partitions=lambda: {str(path): False}),
        positions={str(path): Position(500), "gone": Position(9)},
        admission=SimpleNamespace(watermark=0),
        engine=SimpleNamespace(alerts={"a": 1}),
        fates=lambda: {"counted": 1234},
    )
    with terminal.progress() as show:
        show(seen)
        show(seen)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"1,234 records, 0/s, up to 1970-01-01T00:00:00Z, 1 alert live", shown)


def test_a_pipe_sees_no_bar(tmp_path: Path, config: Path, driftd: Run) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(log())
    assert driftd("replay", "-c", config, "--out", tmp_path / "out", path).err == ""


def test_reading_rows_are_what_the_store_holds(replayed: tuple[Path, Result]) -> None:
    out, _ = replayed
    store = Store(out / "driftd.db")
    held = [msgspec.json.decode(msgspec.json.encode(reading_row(reading))) for reading in store.readings()]
    store.close()
    assert held == rows(out / "readings.jsonl")


def test_the_command_starts_from_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "--version"],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "DRIFTD_DEBUG": "1"},
    )
    assert done.stdout.startswith("driftd ")
