"""`driftd reference` from end to end: what it says, what it leaves, what it refuses and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor import app
from monitor.reference_file import unpack
from monitor.store import Store
from tests.replay.logs import START, lines, make_log, write
from tests.test_main import Run, driftd  # noqa: F401  a fixture

CONFIG = "windows: [1m]\nlateness: 0s\nsignals: {language: false, embedding: false, toxicity: false}\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine minutes of one stream with one segment; at eight latency doubles."""
    rows = make_log(2, 2_400, per_second=4.5, streams=1, segments=1)
    return write(tmp_path_factory.mktemp("log") / "log.jsonl", lines(rows))


@pytest.fixture(scope="module")
def good_log(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Path:
    kept = [line for line in log.read_bytes().splitlines() if json.loads(line)["ts"] < START + 420_000]
    return write(tmp_path_factory.mktemp("good_log") / "good.jsonl", kept)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "driftd.yaml"
    path.write_text(CONFIG + "reference: {kind: file, path: good.reference}\n")
    return path


@pytest.fixture
def good(config: Path, good_log: Path, driftd: Run) -> Path:  # noqa: F811
    """Built by the very configuration that will use it, before there is such a file."""
    path = config.parent / "good.reference"
    done = driftd("reference", "build", "-c", config, "--out", path, good_log)
    assert done.code == 0, done.err
    return path


def test_build_then_show_then_replay(  # noqa: PLR0917  fixtures
    config: Path,
    good: Path,
    log: Path,
    tmp_path: Path,
    driftd: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = driftd("reference", "show", good)
    file = unpack(good.read_bytes(), "")
    assert shown.code == 0
    assert f"reference  {file.id}\n" in shown.out
    assert "to         2026-01-01T00:07:00.000Z\n" in shown.out
    assert "windows    1m\n" in shown.out
    for text in ("bot-0", "segment=tenant-0", "latency_seconds", "numeric", "response_refusal", "rate"):
        assert text in shown.out
    monkeypatch.chdir(tmp_path.parent)  # the path is beside the configuration, not beside the reader
    assert driftd("check", "-c", config).code == 0
    out = tmp_path / "out"
    done = driftd("replay", "-c", config, "--out", out, log)
    assert done.code == 1, done.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["reference"]["id"] == file.id
    overlap = "the file learned from 2026-01-01T00:00:00.000Z to 2026-01-01T00:07:00.000Z; windows with a part of that"
    assert any(f"reference: bot-0: {overlap} time are not judged" in notice for notice in summary["notices"])
    assert f"reference  {file.id}\n" in driftd("status", out).out


def test_a_seasonal_reference_is_built_shown_and_held_against(
    config: Path,
    good_log: Path,
    log: Path,
    driftd: Run,  # noqa: F811
) -> None:
    seasonal, good, out = (config.parent / name for name in ("seasonal.yaml", "good.reference", "out"))
    seasonal.write_text(CONFIG + "reference: {kind: seasonal, period: 3m, size: 6m}\n")
    assert driftd("reference", "build", "-c", seasonal, "--out", good, good_log).code == 0
    assert "period     3m\n" in driftd("reference", "show", good).out
    done = driftd("replay", "-c", config, "--out", out, log)  # at eight minutes refusals rise, and latency
    assert done.code == 1, done.err
    alert = json.loads((out / "alerts.jsonl").read_text().splitlines()[0])
    assert "2026-01-01T00:08:00.000Z" < alert["at"] <= "2026-01-01T00:08:20.000Z"
    assert "response_refusal" in alert["signals"]
    seasonal.write_text(CONFIG + "reference: {kind: seasonal, period: 5m, size: 10m}\n")
    short = config.parent / "short.reference"
    done = driftd("reference", "build", "-c", seasonal, "--out", short, good_log)
    assert "note: reference: bot-0 learned for 7m" in done.out
    assert "does not hold two periods of 5m; it is not judged" in done.out


def test_a_reference_that_exists_is_not_written_over(
    config: Path,
    good: Path,
    good_log: Path,
    driftd: Run,  # noqa: F811
) -> None:
    before = good.read_bytes()
    done = driftd("reference", "build", "-c", config, "--out", good, good_log)
    assert (done.code, done.err) == (2, f"driftd: {good} exists; give another --out\n")
    assert good.read_bytes() == before
    again = good.with_name("again.reference")
    assert driftd("reference", "build", "-c", config, "--out", again, good_log).code == 0
    assert again.read_bytes() == before
    assert f"both are {unpack(before, '').id}" in driftd("reference", "diff", good, again).out


@pytest.mark.parametrize(
    ("more", "arguments", "said"),
    [
        ("", ["-"], "standard input cannot be read twice; give files, or reference.until"),
        ("", ["nowhere.jsonl"], "nowhere.jsonl"),
        ("until: 2026-03-01T00:00:00Z", ["LOG"], "2026-03-01T00:00:00.000Z, lies behind the end of the logs"),
        ("", ["EMPTY"], "there is nothing to learn from in these logs: no stream has learned anything"),
    ],
)
def test_what_cannot_be_built_is_refused(  # noqa: PLR0917  fixtures
    more: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    good_log: Path,
    driftd: Run,  # noqa: F811
) -> None:
    config, empty = tmp_path / "driftd.yaml", tmp_path / "empty.jsonl"
    config.write_text(f"{CONFIG}reference: {{{more or 'size: 6m'}}}\n")
    empty.write_bytes(b'{"id": "no time"}\n')
    logs = [{"LOG": good_log, "EMPTY": empty}.get(name, name) for name in arguments]
    done = driftd("reference", "build", "-c", config, "--out", tmp_path / "x", *logs)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["check", "replay", "show", "diff"])
def test_a_file_that_cannot_be_used_is_refused_by_name(  # noqa: PLR0917  fixtures
    command: str,
    config: Path,
    good: Path,
    log: Path,
    tmp_path: Path,
    driftd: Run,  # noqa: F811
) -> None:
    commands = {
        "check": ["check", "-c", config],
        "replay": ["replay", "-c", config, "--out", tmp_path / "out", log],
        "show": ["reference", "show", good],
        "diff": ["reference", "diff", good, good],
    }
    data = good.read_bytes()
    good.write_bytes(data[:-100])
    done = driftd(*commands[command])
    assert (done.code, done.err.startswith(f"driftd: {good}: is cut short, ")) == (2, True)
    good.write_bytes(data[:5_000] + b"!" + data[5_001:])
    assert "was changed after it was built" in driftd(*commands[command]).err
    good.unlink()
    done = driftd(*commands[command])
    assert (done.code, done.err) == (2, f"driftd: {good}: cannot be read: No such file or directory\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_file_that_does_not_fit_is_refused_with_all_that_differs(  # noqa: PLR0917  fixtures
    command: str,
    config: Path,
    good: Path,
    log: Path,
    tmp_path: Path,
    driftd: Run,  # noqa: F811
) -> None:
    text = config.read_text().replace("[1m]", "[1m, 2m]").replace("signals: {", "signals: {operational: false, ")
    config.write_text(text + "  \n")
    more = ["--out", tmp_path / "out", log] if command == "replay" else []
    done = driftd(command, "-c", config, *more)
    assert done.code == 2
    found = done.err.splitlines()
    assert found[0].startswith(f"driftd: {good}: windows of 2m are not in it, it has 1m; measure what it has, or build")
    assert any("latency_seconds: the reference has it, nothing measures it now" in line for line in found)
    assert all(line.endswith("`driftd reference build`") for line in found)


def test_diff_tells_what_moved_and_what_is_only_in_one(
    good: Path,
    log: Path,
    tmp_path: Path,
    driftd: Run,  # noqa: F811
) -> None:
    config, other = tmp_path / "other.yaml", tmp_path / "other.reference"
    config.write_text(CONFIG.replace("toxicity: false", "toxicity: false, text: false") + "streams: {segments: []}\n")
    rows = [json.loads(line) for line in log.read_bytes().splitlines()]
    late = write(tmp_path / "late.jsonl", lines([row for row in rows if row["ts"] >= START + 480_000]))
    built = driftd("reference", "build", "-c", config, "--out", other, late)
    assert built.code == 0
    assert "note: reference: bot-0 learned for" in built.out, "too short for its windows"
    done = driftd("reference", "diff", good, other)
    assert done.code == 0
    table = [line.split() for line in done.out.splitlines() if line.startswith(" bot-0")]
    assert table[0][1] == "latency_seconds", "the most different first"
    assert table[0][4] == "jensen_shannon"
    assert table[-1][4:6] == ["jensen_shannon", "0,"]
    assert f"only in {good}: bot-0/segment=tenant-0" in done.out
    assert "prompt_chars" in done.out.split(f"only in {good}: bot-0: ")[1]


# ---- accept ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path, log: Path, driftd: Run) -> Path:  # noqa: F811
    config, out = tmp_path / "learned.yaml", tmp_path / "out"
    config.write_text(CONFIG + "reference: {size: 6m}\n")
    assert driftd("replay", "-c", config, "--out", out, "--resume", log).code == 1
    return out


def test_accept_says_what_it_did_and_status_remembers_it(
    stopped: Path,
    driftd: Run,  # noqa: F811
) -> None:
    assert "AnyDrift" in driftd("status", stopped).out.split("live alerts")[1]
    done = driftd("reference", "accept", "AnyDrift/bot-0", stopped, "--by", "ada", "--reason", "a new model")
    assert done.code == 0, done.err
    assert "AnyDrift/bot-0: resolved, rebaselined\n" in done.out
    assert "learn anew, in 2 streams or segments" in done.out
    status = driftd("status", stopped).out
    assert "accepted   AnyDrift/bot-0 at 2026-01-01T00:0" in status
    assert "Z by ada (" in status
    assert status.split("\nlive alerts")[0].count(": a new model") == 1
    again = driftd("reference", "accept", "AnyDrift/bot-0", stopped)
    assert (again.code, again.err.startswith("driftd: there is no live alert 'AnyDrift/bot-0'; there are: ")) == (
        2,
        True,
    )


def test_accept_refuses_a_store_in_use_and_none(
    stopped: Path,
    tmp_path: Path,
    driftd: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(stopped / app.STORE)
    done = driftd("reference", "accept", "AnyDrift/bot-0", stopped)
    assert (done.code, "is in use by another driftd process" in done.err) == (3, True)
    store.close()
    assert driftd("reference", "accept", "AnyDrift/bot-0", tmp_path / "nowhere").code == 2

    def nameless() -> str:
        raise OSError

    monkeypatch.setattr("getpass.getuser", nameless)
    assert driftd("reference", "accept", "AnyDrift/bot-0", stopped).code == 0
    assert "by unknown" in driftd("status", stopped).out
