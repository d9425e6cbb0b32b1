"""What is kept of what was said: searched for in the bytes of all that a replay leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay.logs import config, lines, make_log, replay, write

SAID = "zebracrossing"
ADDRESS = "jane.doe@example.org"


def log_of(folder: Path) -> list[Path]:
    """Two files; one holds lines that are no records."""
    rows = make_log(5, 2_400)
    for i, row in enumerate(rows):
        if "prompt" in row:
            row |= {"prompt": f"{SAID} {i} of {ADDRESS}", "response": f"{SAID} {i % 7}", "context": f"{SAID} {ADDRESS}"}
            if i % 40 == 0:
                row["status"] = ADDRESS  # a log may have anything in the place of a category
    messages = lines(rows)
    # nor in the place of a field's name
    messages.insert(300, f'{{"ts": {rows[300]["ts"]}, "model": "bot", "{ADDRESS}": 1}}'.encode())
    messages.insert(500, f'{{"id": "no time", "prompt": "{SAID} {ADDRESS}"}}'.encode())
    return [write(folder / "a.jsonl", messages[:1_300]), write(folder / "b.jsonl", messages[1_300:])]


def held(out: Path) -> dict[str, bytes]:
    """Name -> bytes of every file of a replay."""
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def replayed(folder: Path, content: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What is there while slices are open, and when all is closed."""
    first, second = log_of(folder)
    settings, out = config(f"content: {content}\nsignals: {{sample: 8}}"), folder / content
    replay(settings, out, first, resume=True, sampled=True)
    before = held(out)
    replay(settings, out, first, second, resume=True, sampled=True)
    replay(settings, out, resume=True, sampled=True)
    return before, held(out)


def test_none_leaves_no_text(tmp_path: Path) -> None:
    before, after = replayed(tmp_path, "none")
    assert any(SAID.encode() in data for data in before.values())  # the redacted candidates of open slices
    assert not any(ADDRESS.encode() in data for data in before.values())
    assert not {name for name, data in after.items() if SAID.encode() in data or ADDRESS.encode() in data}
    assert b'"firing"' in after["alerts.jsonl"]
    assert b'"excerpt":null' in after["rejects.jsonl"]


def test_what_is_kept_is_redacted(tmp_path: Path) -> None:
    before, after = replayed(tmp_path, "redacted")
    assert not any(ADDRESS.encode() in data for files in (before, after) for data in files.values())
    assert f"{SAID} [email]".encode() in after["rejects.jsonl"]
    assert SAID.encode() in after["driftd.db"]


def test_all_is_kept_as_it_came_where_the_owner_says_so(tmp_path: Path) -> None:
    _, after = replayed(tmp_path, "full")
    assert ADDRESS.encode() in after["driftd.db"]
    assert ADDRESS.encode() in after["rejects.jsonl"]


@pytest.mark.parametrize("content", ["none", "redacted"])
def test_what_the_program_says_holds_no_text(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
    replayed(tmp_path, content)
    said = capfd.readouterr()
    assert SAID not in said.out + said.err
