"""What the documents say can be false, so it is checked: commands, options, keys, fields, signals, files."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import monitor.__main__ as command_line
from monitor import __version__, reference_commands
from monitor.clusters import derived
from monitor.config import Config, parse
from monitor.decoding import COLUMNS, Native
from monitor.distances import DISTANCES
from monitor.model import AlertChange, Position, Raw, Reading, Reject
from monitor.rules import built_in_rules
from monitor.scorers import SAMPLE_SCORERS, SCORERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
DOCUMENTS = {"README.md": README, "CONTRIBUTING.md": CONTRIBUTING, "CHANGELOG.md": CHANGELOG}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def section(title: str) -> str:
    (found,) = re.findall(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README)
    return str(found)


def cells(text: str, column: int = 0) -> list[str]:
    """The code in a column of a section's table."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [name for row in lines[2:] for name in re.findall(r"`([^`]+)`", row[column])]


COMMANDS = set(getattr(get_command(command_line.app), "commands"))  # noqa: B009  a group, which the type does not say
SOURCE = inspect.getsource(command_line) + inspect.getsource(reference_commands)


def test_there_are_two_commands_to_set_up_and_they_come_first() -> None:
    demo, tests = blocks(README, "sh")[:2]
    assert demo == "python3 -m venv .venv && .venv/bin/pip install '.[bundled-model]' && .venv/bin/driftd demo\n"
    assert tests == "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest\n"
    assert README.index("```sh") < 1500
    assert sum("venv" in block for block in blocks(README, "sh")) == 2


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_is_named_exists(name: str) -> None:
    named = re.findall(r"(?:`|^|bin/|[ :])driftd ([a-z]+)\b(?=[^\n]*`|$| -| <|`)", DOCUMENTS[name], re.MULTILINE)
    prose = {"reads", "runs", "tells"}
    assert set(named) - prose <= set(COMMANDS)


def test_every_command_is_in_the_readme() -> None:
    kept = {"run", "backup", "restore", "positions", "status", "explain"}
    assert set(COMMANDS) == kept | {"replay", "backtest", "check", "reference", "demo"}
    for command in COMMANDS:
        assert re.search(rf"driftd {command}\b", README)


def test_commands_in_blocks_have_options_that_exist() -> None:
    shown = [shlex.split(line) for block in blocks(README, "sh") for line in block.splitlines()]
    shown = [words for words in shown if words[0] == "driftd"]
    assert len(shown) >= 4
    for _, command, *words in shown:
        source = SOURCE if command in COMMANDS else ""
        assert all(f'"{word}"' in source for word in words if word.startswith("-") and word != "-")


def test_every_option_that_is_named_exists() -> None:
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert f'"{option}"' in SOURCE


@pytest.mark.parametrize("block", [*blocks(README, "yaml"), *blocks(CONTRIBUTING, "yaml")])
def test_configurations_are_right(block: str) -> None:
    assert parse(block, "README.md") != Config()


def test_every_key_that_is_named_exists() -> None:
    dotted = set(re.findall(r"`((?:streams|signals|reference|false_alarms|store|sources)\.[a-z_]+)`", README))
    assert dotted
    for key in dotted:
        group, name = key.split(".")
        assert name in type(getattr(Config(), group)).model_fields
    for name in ("lateness", "skew", "windows", "reference", "rules", "streams", "false_alarms"):
        assert name in Config.model_fields
        assert re.search(rf"\b{name}\b", README)


def test_example_records_are_records() -> None:
    lines = "".join(blocks(README, "json")).encode().splitlines()
    raw = Raw("README.md", lines, list(range(len(lines))), [], Position(0))
    decoder = Native()
    records, rejects = decoder.decode(raw)
    assert rejects == []
    assert len(records) == len(lines) == 2
    assert decoder.unknown_fields == {}
    assert decoder.generated_ids == 0
    assert all(json.loads(line)["ts"].endswith("Z") for line in lines)


def test_the_table_of_fields_is_whole() -> None:
    assert sorted(cells(section("Replay your own log"))) == sorted([*COLUMNS, "ts", "context", "segment"])


def test_the_table_of_signals_is_whole() -> None:
    rows = [*(row.signals for row in SCORERS.values()), *(row.signals for row in SAMPLE_SCORERS.values())]
    rows += [derived(row) for row in rows]
    signals = [signal.name for row in rows for signal in row]
    assert sorted(cells(section("What is measured"))) == sorted([*signals, "volume"])


def test_the_table_of_files_has_every_field() -> None:
    text = section("What comes out")
    assert cells(text) == [
        "alerts.jsonl", "readings.jsonl", "rejects.jsonl", "triggers.jsonl", "summary.json", "driftd.db",
    ]  # fmt: skip
    for name, kind in {"alerts": AlertChange, "readings": Reading, "rejects": Reject}.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}.jsonl`")]
        assert set(kind.__struct_fields__) <= set(re.findall(r"`(\w+)`", line))


def test_distances_and_rules_that_are_named_exist() -> None:
    text = section("How it decides")
    (named,) = re.findall(r"((?:`\w+`,? (?:and )?)+)others stand beside them", " ".join(text.split()))
    assert set(re.findall(r"`(\w+)`", named)) <= set(DISTANCES)
    for rule in built_in_rules():
        assert f"`{rule.name}`" in text


@pytest.mark.parametrize("marker", ["bench", "null", "redaction", "toxicity"])
def test_measured_tables_have_their_place(marker: str) -> None:
    assert README.count(f"<!-- {marker} -->") == README.count(f"<!-- /{marker} -->") == 1
    assert README.index(f"<!-- {marker} -->") < README.index(f"<!-- /{marker} -->")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_named_exists(name: str) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCUMENTS[name])
    named = re.findall(
        r"`((?:monitor|tests|config|dashboards|\.ci)/[\w./-]+|[A-Z]+\.md|pyproject\.toml)`", DOCUMENTS[name]
    )
    for path in {*linked, *named}:
        assert (ROOT / path).exists(), path


def test_every_row_of_the_map_names_files_and_tests() -> None:
    table = CONTRIBUTING.split("## The map of the rooms")[1].split("A statistic")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    assert {row[0].strip() for row in rows} >= {"a distance", "a source", "a scorer", "a signal", "a command"}
    for _, files, tests in rows:
        assert re.search(r"`monitor/[\w./]+\.py`", files)
        assert re.search(r"`tests/[\w./]+\.py`", tests)


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "\n## [Unreleased]\n" in CHANGELOG
    released = re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\]", CHANGELOG)
    assert not released or released[0] == __version__


def test_help_says_what_the_readme_says_of_exit_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "replay", "--help"], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stdout.split())
    text = " ".join(README.split())
    for part in ("0 nothing fired", "1 alerts fired", "2 bad usage or configuration", "3 failed", "130 interrupted"):
        assert part in said
        assert part in text
