"""`driftd reference`: make a reference file, look at one, hold two side by side, accept a new normal."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from monitor.terminal import configuration, failures, few, opened, progress, say, standard_output, stop, store_in, table

if TYPE_CHECKING:
    from monitor.acceptance import Acceptance, Accepted
    from monitor.model import Scope
    from monitor.reference import ScopeReference
    from monitor.reference_file import Compared, ReferenceFile
    from monitor.store import Store

app = typer.Typer(
    name="reference",
    help="What windows are held against: build a file of it, show it, compare two, accept a new normal.",
    no_args_is_help=True,
)
Ref = Annotated[Path, typer.Argument(metavar="REF", help="File that `driftd reference build` made.")]
_SHOWN = 30
"""Rows of a comparison that are shown unless all are asked for."""


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", metavar="REF", help="File to make; one that exists is refused.")],
    logs: Annotated[list[str], typer.Argument(metavar="LOG", help="Files, folders or globs.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML).", show_default=False)
    ] = None,
) -> None:
    """Learn what is normal from finished logs, to their end or to `reference.until`, and write it to one file.

    The same logs and configuration give the same file. Exit: 0 built, 2 bad usage or configuration, 3 failed.
    """
    from monitor import building  # noqa: PLC0415  `driftd --help` needs none of it

    with failures():
        settings = configuration(config)
        if out.exists():
            stop(2, f"{out} exists; give another --out")
        with progress() as show:
            built = building.build(settings, logs, show)
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(out.name + ".part")
        temporary.write_bytes(built.data)
        temporary.replace(out)
        _show(_read(out), standard_output())
    for notice in built.notices:
        say([f"note: {notice}"])


@app.command()
def show(reference: Ref) -> None:
    """Say what a reference file holds. Exit: 0 said, 2 it cannot be used."""
    with failures():
        _show(_read(reference), standard_output())


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The older file.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The newer file.")],
    everything: Annotated[  # noqa: FBT002  typer's options are declared so
        bool, typer.Option("--all", help="All rows, not only the largest differences.")
    ] = False,
) -> None:
    """Say how two reference files differ: signals that both have, the most different first, and what one lacks.

    The distances are descriptive; no test is made. Exit: 0 said, 2 a file cannot be used.
    """
    from monitor.reference_file import compare  # noqa: PLC0415

    with failures():
        one, two = _read(before), _read(after)
    rows = compare(one, two)
    console = standard_output()
    if one.id == two.id:
        console.print(f"both are {one.id}", highlight=False)
        return
    shown = rows if everything else rows[:_SHOWN]
    columns = ("scope", "signal", "before", "after", "distances")
    console.print(table(f"{one.id} and {two.id}", columns, [_compared(row) for row in shown]))
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown)} more rows with --all", highlight=False)
    for mine, other, file in ((one, two, before), (two, one, after)):
        for line in _only(mine, other):
            say([f"only in {file}: {line}"])


@app.command()
def accept(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="RULE/STREAM or RULE/STREAM/LABEL=VALUE.")],
    out: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a stopped daemon or replay; or its store.")
    ] = Path(),
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who accepts; without it, your login.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks later.")] = "",
) -> None:
    """Take what a live alert says for the new normal: its signals learn anew, all others go on as before.

    Exit: 0 accepted, 2 there is no such alert or no store, 3 the store is in use or cannot be read.
    """
    from monitor.acceptance import NotAcceptedError  # noqa: PLC0415
    from monitor.settings import format_time  # noqa: PLC0415
    from monitor.store import Store  # noqa: PLC0415

    opened(out).close()
    with failures():
        store = Store(store_in(out))
        try:
            done = _accepted(store, alert, _login() if by is None else by, reason)
        except NotAcceptedError as error:
            stop(2, str(error))
        finally:
            store.close()
    for change in done.changes:
        say([f"{change.key.name}: {change.state}, rebaselined"])
    said = done.acceptance
    typer.echo(
        f"from {format_time(said.at)[:19]}Z {few(said.signals)} learn{'s' * (len(said.signals) == 1)} anew, "
        f"in {said.scopes} stream{'s' * (said.scopes != 1)} or segment{'s' * (said.scopes != 1)}"
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return "unknown"


def _accepted(store: Store, alert: str, by: str, reason: str) -> Accepted:
    """Accept an alert and write all that it changes in one transaction."""
    from monitor.acceptance import accept as accept_alert  # noqa: PLC0415
    from monitor.model import Checkpoint  # noqa: PLC0415
    from monitor.settings import parse_duration  # noqa: PLC0415

    settings = json.loads(store.meta().get("configuration", '{"windows": [], "rules": []}'))
    sizes = [parse_duration(text) for text in settings["windows"]]
    levels = {rule["name"] for rule in settings["rules"] if isinstance(rule["on"], Mapping)}
    done = accept_alert(store.blobs(), sizes, alert, by, reason, levels=levels)
    store.commit(
        Checkpoint(
            positions={},
            blobs=done.blobs,
            counts=store.counts(),
            readings=(),
            changes=done.changes,
            alerts=done.alerts,
            rejects=(),
            notices=(),
            meta={},
        )
    )
    return done


def acceptances(store: Store) -> list[Acceptance]:
    """What was accepted in a store, the first first."""
    import msgspec  # noqa: PLC0415

    from monitor.acceptance import TABLE, Acceptance  # noqa: PLC0415

    return [msgspec.msgpack.decode(data, type=Acceptance) for _, _, data in store.blobs(TABLE)]


def _read(path: Path) -> ReferenceFile:
    from monitor.app import read_reference  # noqa: PLC0415

    return read_reference(path)


# ---- tables ---------------------------------------------------------------------------------------------------------


def _show(file: ReferenceFile, console: Console) -> None:
    from monitor.settings import format_duration, format_time  # noqa: PLC0415

    for line in (
        f"reference  {file.id}",
        f"from       {format_time(file.begin)}",
        f"to         {format_time(file.end)}",
        f"windows    {', '.join(map(format_duration, file.sizes))}",
        *([] if file.cycle is None else [f"period     {format_duration(file.cycle.period)}"]),
        f"made by    driftd {file.made_by}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    scopes = [(_named(scope), *_counted(reference)) for scope, reference in file.scopes.items()]
    console.print(table("streams and segments", ("scope", "from", "to", "records", "windows", "series"), scopes))
    held = {name for reference in file.scopes.values() for name in reference.series}
    rows = [(name, *_of_signal(file, name)) for name in file.signals if name in held]
    console.print(table("signals", ("signal", "kind", "n", "unsteady in"), rows))
    absent = [name for name in file.signals if name not in held]
    if absent:
        console.print(f"not in these logs: {', '.join(absent)}", highlight=False, soft_wrap=True)


def _named(scope: Scope) -> str:
    return "/".join(filter(None, scope))


def _counted(reference: ScopeReference) -> tuple[str, ...]:
    """Times, records, whole windows of each size and signals of one scope."""
    from monitor.settings import format_time  # noqa: PLC0415
    from monitor.windows import SLICES  # noqa: PLC0415

    records = max((series.n for series in reference.series.values()), default=0)
    windows = ", ".join(str(count // SLICES) for _, count in sorted(reference.slices.items()))
    times = (f"{format_time(time)[:16]}Z" for time in (reference.begin, reference.end))
    return *times, f"{records:,}", windows, f"{len(reference.series)}"


def _of_signal(file: ReferenceFile, name: str) -> tuple[str, str, str]:
    """Kind, observations in whole streams, and where and how the learning period was not steady."""
    held = {scope: r.series[name] for scope, r in file.scopes.items() if name in r.series}
    unsteady = [f"{_named(scope)} ({series.unsteady})" for scope, series in held.items() if series.unsteady]
    n = sum(series.n for scope, series in held.items() if scope.segment is None)
    return file.signals[name].kind, f"{n:,}", few(unsteady)


def _compared(row: Compared) -> tuple[str, ...]:
    from monitor.reference_file import leading  # noqa: PLC0415

    first = leading(row.signal)
    names = [first, *(name for name in row.distances if name != first)]
    distances = ", ".join(f"{name} {row.distances[name]:.3g}" for name in names)
    return _named(row.scope), row.signal.name, row.before, row.after, distances


def _only(mine: ReferenceFile, other: ReferenceFile) -> list[str]:
    """Streams, segments and signals that one file has and the other lacks, or has of another kind."""
    from monitor.reference import differing  # noqa: PLC0415

    scopes = [_named(scope) for scope in mine.scopes if scope not in other.scopes]
    lacking = [
        f"{_named(scope)}: {', '.join(names)}"
        for scope, reference in mine.scopes.items()
        if scope in other.scopes
        for names in [[name for name in reference.series if name not in other.scopes[scope].series]]
        if names
    ]
    both = {name: signal for name, signal in mine.signals.items() if name in other.signals}
    return [*scopes, *lacking, *differing(both, other.signals)]
