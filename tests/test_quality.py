"""The checks that are part of the tests: style, types, layers, what is imported, and what no file may say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SKIPPED = {".git", ".venv", "__pycache__", "dist", "build", "node_modules"}

CHECKS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import-linter": ["-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_check_passes(name: str) -> None:
    done = subprocess.run([sys.executable, *CHECKS[name]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- imports --------------------------------------------------------------------------------------------------------

HEAVY = ["torch", "evidently", "pandas", "kafka", "sentence_transformers", "transformers", "sklearn", "matplotlib"]
WORK = """
import io, tempfile
from pathlib import Path
from monitor.app import replay
from monitor.config import Config
line = b'{"ts": 1793577600, "prompt": "hi", "response": "Sorry, I cannot help.", "session": "s", "model": "m"}'
with tempfile.TemporaryDirectory() as out:
    settings = Config(signals={"embedding": False})
    assert replay(settings, Path(out), ["-"], resume=False, stdin=io.BytesIO(line)).summary["records"] == {"counted": 1}
"""


def imported(code: str) -> set[str]:
    """The modules that a fresh process holds after `code`."""
    ask = f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    ["import monitor.__main__, monitor.app, monitor.demo, monitor.scorers, monitor.sources, monitor.summaries", WORK],
    ids=["imports", "a replay"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert imported(code).isdisjoint(HEAVY)


def test_help_needs_neither_numbers_nor_configuration() -> None:
    held = imported("import monitor.__main__")
    assert held.isdisjoint({"numpy", "scipy", "pyarrow", "pydantic", "ruamel.yaml", "monitor.config", "monitor.model"})


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    named = {re.split(r"[<>=\[ ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    modules = {
        "ruamel.yaml": "ruamel",
        "lingua-language-detector": "lingua",
        "python-stdnum": "stdnum",
        "kafka-python": "kafka",
    }
    wanted = {modules.get(name, name.replace("-", "_")) for name in named - {"alt-profanity-check"}}  # read, not run
    own = set(sys.stdlib_module_names) | {"monitor"}
    found = set()
    for path in (ROOT / "monitor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    # pydantic_core is pydantic's own second half, pinned by it to one version
    assert found - own - {"pydantic_core"} == wanted


# ---- what no file may say -------------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    """Every file of the repository that is text, by its path."""
    found = {}
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        hidden = any(
            part in SKIPPED or re.fullmatch(r"\..*(cache|benchmarks|hypothesis)", part) for part in inside.parts
        )
        if path.is_file() and not hidden:
            try:
                found[str(inside)] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"/(?:work|root|home/\w+|Users/\w+)/")
    own = str(Path(__file__).relative_to(ROOT))
    guilty = [name for name, text in texts().items() if name != own and machine.search(text)]
    assert guilty == []


def pure_files() -> list[Path]:
    (contract,) = [part for part in PROJECT["tool"]["importlinter"]["contracts"] if part["type"] == "forbidden"]
    found: list[Path] = []
    for module in contract["source_modules"]:
        place = ROOT / module.replace(".", "/")
        found += place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    return found


CLOCKS = re.compile(r"\b(?:now|utcnow|today|time|time_ns|monotonic|perf_counter)\(\s*(?:UTC|tz=.*?)?\)|\bimport time\b")


def test_pure_modules_ask_no_clock() -> None:
    files = pure_files()
    assert len(files) > 12
    guilty = {str(path.relative_to(ROOT)): CLOCKS.findall(path.read_text()) for path in files}
    assert {name: calls for name, calls in guilty.items() if calls} == {}


@pytest.mark.parametrize(
    "call", ["datetime.now()", "datetime.now(UTC)", "datetime.utcnow()", "time.time()", "import time"]
)
def test_a_clock_would_be_seen(call: str) -> None:
    assert CLOCKS.search(f"    at = {call}\n")


def test_what_a_component_needs_is_in_an_explicit_table_and_nothing_is_pickled() -> None:
    code = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "monitor").rglob("*.py")}
    guilty = [name for name, text in code.items() if re.search(r"\b(?:import|from) (?:pickle|joblib)\b", text)]
    assert guilty == ["monitor/scorers/lexicon.py"]  # reads one model, through a reader of numbers alone


def test_the_continuous_check_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert re.search(r"pip install .*-e '\.\[test\]'", script)
    assert "-m pytest" in script
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0
