"""The command line. Exit: 0 quiet, 1 alerts fired or a check failed, 2 usage or configuration, 3 failed."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor import __version__, positions_commands, reference_commands
from monitor.terminal import (
    configuration,
    failures,
    few,
    opened,
    printable,
    progress,
    say,
    standard_output,
    stop,
    store_in,
    table,
)

if TYPE_CHECKING:
    from monitor.acceptance import Acceptance
    from monitor.app import Outcome
    from monitor.model import AlertChange

app = typer.Typer(
    name="driftd",
    help="Says when what a language model is asked or answers has changed, within a stated false-alarm budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(reference_commands.app)
app.add_typer(positions_commands.app)
ConfigPath = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML). Without it: the defaults.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for what comes out; new or empty, unless --resume.")
]


def _version(value: bool) -> None:  # noqa: FBT001  typer's callbacks are called so
    if value:
        typer.echo(f"driftd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,  # noqa: FBT002
) -> None:
    pass


@app.command()
def replay(
    out: Out,
    logs: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Files, folders, globs, or - for standard input.", show_default=False),
    ] = None,
    config: ConfigPath = None,
    resume: Annotated[  # noqa: FBT002  typer's options are declared so
        bool,
        typer.Option("--resume", help="Create DIR or go on with it, and leave its end open; without a LOG, close it."),
    ] = False,
) -> None:
    """Run finished logs through the pipeline, in their own time, and write what was found to DIR.

    Exit: 0 nothing fired, 1 alerts fired, 2 bad usage or configuration, 3 failed, 130 interrupted.
    """
    from monitor import app as wiring  # noqa: PLC0415

    with failures():
        settings = configuration(config)
        try:
            with progress() as show:
                outcome = wiring.replay(settings, out, logs or [], resume=resume, on_commit=show)
        except KeyboardInterrupt:
            hint = "the same command goes on" if resume else "the same command with --resume goes on"
            stop(130, f"interrupted; {out} keeps what was committed, and {hint}")
        _report(outcome, out)
    raise typer.Exit(1 if outcome.fired else 0)


def _report(outcome: Outcome, out: Path) -> None:
    """The table at the end of a replay."""
    from monitor.settings import format_time  # noqa: PLC0415  with the command

    console = standard_output()
    fired = [
        change for change in outcome.changes if change.state in {"firing", "resolved"} and change.reason != "joined"
    ]
    rows = [(f"{format_time(c.at)[:19]}Z", c.rule, c.state, c.stream, c.segment or "", few(c.signals)) for c in fired]
    columns = ("at", "rule", "state", "stream", "segment", "signals")
    console.print(table("alerts" if fired else "no alerts", columns, rows))
    records = outcome.summary["records"]
    fates = ", ".join(f"{name} {count:,}" for name, count in records.items())
    seconds, rate = outcome.summary["seconds"], outcome.summary["records_per_second"]
    remarks = ", ".join(f"{name} {count:,}" for name, count in outcome.summary["scoring"].items())
    refused = (out / "rejects.jsonl").stat().st_size > 0
    say(
        [
            f"{sum(records.values()):,} records in {seconds:.1f} s ({rate:,.0f} records/s): {fates}",
            *([f"what was refused, with reasons: {out / 'rejects.jsonl'}"] if refused else []),
            *([f"not measured, or not wholly: {remarks}"] if remarks else []),
            *(f"note: {notice}" for notice in outcome.summary["notices"]),
            f"written to {out}",
        ]
    )


@app.command()
def run(
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML).")],
) -> None:
    """Follow the sources of the configuration until it is stopped (SIGTERM, Ctrl-C), and go on from there next time.

    SIGHUP reads the configuration again; one that is wrong is refused, and the old one stays.
    Exit: 0 stopped, 2 bad usage or configuration, 3 failed; at once and with 128 + its number on a second signal.
    """
    from monitor import daemon  # noqa: PLC0415
    from monitor.config import load  # noqa: PLC0415
    from monitor.logs import speak  # noqa: PLC0415

    os.umask(0o027)  # what is kept of texts is nobody else's
    stop_asked, reload = daemon.Stop(), daemon.Reload(partial(load, config))
    with failures(), stop_asked.on_signals(), reload.on_signal():
        settings = load(config)
        speak(settings.log)
        daemon.run(settings, stop_asked, reload)


@app.command()
def backtest(
    logs: Annotated[list[str], typer.Argument(metavar="LOG", help="Files, folders, globs, or - for standard input.")],
    config: ConfigPath = None,
) -> None:
    """Say what the rules would have paged on finished logs, and how much of it may be chance. Nothing is kept.

    Exit: 0 nothing fired, 1 alerts fired, 2 bad usage or configuration, 3 failed.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from monitor import app as wiring  # noqa: PLC0415

    with failures():
        settings = configuration(config)
        with TemporaryDirectory(prefix="driftd-backtest-") as folder, progress() as show:
            outcome = wiring.replay(settings, Path(folder), logs, resume=False, on_commit=show)
        _paged(outcome)
    raise typer.Exit(1 if outcome.fired else 0)


def _paged(outcome: Outcome) -> None:
    """The table at the end of a backtest: the pages, and the alerts on each."""
    from monitor.settings import format_time  # noqa: PLC0415  with the command

    fired = [change for change in outcome.changes if change.state == "firing" and change.reason != "joined"]
    pages: dict[tuple[int, str], list[AlertChange]] = {}
    for change in fired:
        pages.setdefault((change.at, change.stream), []).append(change)
    rows = [
        (
            f"{format_time(at)[:19]}Z",
            stream,
            few(sorted({c.rule for c in together})),
            few([c.summary for c in together]),
        )
        for (at, stream), together in pages.items()
    ]
    standard_output().print(table("pages" if rows else "no pages", ("at", "stream", "rules", "what they say"), rows))
    budget, records = outcome.summary["false_alarms"], sum(outcome.summary["records"].values())
    chance = f"of alerts on drift at most {budget['expected']:.2g} are expected by chance"
    allowed = f"with a budget of {budget['at_most']:g} in {budget['per']}"
    say(
        [
            f"{len(fired)} alerts on {len(rows)} pages, from {records:,} records; {chance}, {allowed}",
            *(f"note: {notice}" for notice in outcome.summary["notices"]),
        ]
    )


@app.command()
def check(
    logs: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Files, folders, globs, -; or the folder of a replay.", show_default=False),
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Say all that is wrong with a configuration; of a LOG also which changes its rules would see, and how soon.

    Nothing is kept. Exit: 0 nothing is wrong, 2 something is, or too little is in the LOG to say anything.
    """
    from monitor.app import foretold, make_engine  # noqa: PLC0415

    if config is None and not logs:
        stop(2, "nothing to check; give a configuration (-c FILE), or a LOG")
    with failures():
        settings = configuration(config)
        if logs:
            from monitor import check_command, outlook  # noqa: PLC0415

            with progress() as show:
                seen = outlook.foresee(settings, logs, show)
            check_command.show(seen)
        else:
            engine = make_engine(settings)  # as a replay makes it, with the model that it would load
            found = foretold(settings, engine)
            if found is not None:
                say([f"note: over {settings.store.path}: {found.words}"])
    typer.echo(f"{config or 'the defaults'}: ok")


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a replay, finished or running; or its store.")],
) -> None:
    """Say what a replay has counted, how far its time has come, and which alerts are live.

    Exit: 0 said, 2 there is no store, 3 it cannot be read.
    """
    store = opened(out)
    accepted = reference_commands.acceptances(store)
    counts, live, notices = store.counts(), store.alerts(), store.notices()
    lines = [
        f"watermark  {store.meta().get('watermark') or 'none yet'}",
        f"partitions {len(store.positions())}",
        f"records    {sum(counts.values()):,}",
        *(f"  {name:<12}{count:,}" for name, count in sorted(counts.items())),
        *([f"reference  {store.meta()['reference']}"] if "reference" in store.meta() else []),
        *(f"accepted   {_acceptance(said)}" for said in accepted),
        *(f"note: {notice}" for notice in notices),
    ]
    store.close()
    say(lines)
    columns = ("since", "rule", "state", "severity", "stream", "segment", "signals")
    rows = [(f"{since[:19]}Z", *named, few(signals.split(", "))) for *named, since, signals in live]
    standard_output().print(table("live alerts" if live else "no live alerts", columns, rows))


def _acceptance(said: Acceptance) -> str:
    from monitor.settings import format_time  # noqa: PLC0415

    who = f" by {said.by}" if said.by else ""
    why = f": {said.reason}" if said.reason else ""
    return f"{said.alert} at {format_time(said.at)[:19]}Z{who} ({few(said.signals)}){why}"


@app.command()
def explain(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="RULE/STREAM or RULE/STREAM/LABEL=VALUE.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a replay; or its store.")] = Path(),
) -> None:
    """Say what moved when an alert last fired: its signals by their size, before and after, and where.

    Exit: 0 said, 2 there is no such alert or no store, 3 the store cannot be read.
    """
    from monitor.settings import format_time  # noqa: PLC0415

    store = opened(out)
    found: dict[str, list[AlertChange]] = {}
    for change in store.changes():
        name = printable(change.key.name)  # as it is told, it can be asked for
        if change.state in {"pending", "firing"} and change.reason != "joined":
            found[name] = []
        found.setdefault(name, []).append(change)
    store.close()
    if alert not in found:
        stop(2, f"there is no alert {alert!r}; there are: {', '.join(sorted(found)) or 'none'}")
    for change in found[alert]:
        reason = "" if change.reason == change.state else f" ({change.reason})"
        told = [f"  {line}" for line in (change.explanation or "").split("\n") if line]
        say([f"{format_time(change.at)[:19]}Z {change.state}{reason}: {change.summary}", *told])


@app.command()
def backup(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store of a daemon, running or not.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file for the copy.")],
) -> None:
    """Copy a store, while it may be written, to one file that `driftd restore` takes back.

    Exit: 0 copied, 2 there is no store, 3 it cannot be read, or the copy not written.
    """
    with failures(), closing(opened(store)) as source:
        source.backup(file)
    typer.echo(f"{store_in(store)} is copied to {file}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `driftd backup` made.")],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Where it is to be; of a daemon that is stopped.")],
    replace: Annotated[bool, typer.Option("--replace", help="Also where there is a store already.")] = False,  # noqa: FBT002
) -> None:
    """Put a copy in the place of a store; the daemon goes on from where it was then.

    Exit: 0 restored, 3 the copy is none or damaged, there is a store already, or a daemon has it open.
    """
    from monitor.store import restore as put_back  # noqa: PLC0415

    with failures():
        put_back(file, store, replace=replace)
    typer.echo(f"{store} is as it was copied to {file}")


@app.command()
def demo(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed makes another log.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the table at the end.")] = False,  # noqa: FBT002
) -> None:
    """Find the changes planted in a made-up support bot's log; 0 if all were found and nothing else."""
    from monitor.demo import demonstrate  # noqa: PLC0415

    raise typer.Exit(0 if demonstrate(seed, quiet=quiet) else 1)


def main() -> None:
    """Run the command line; whatever nobody expected exits with 3."""
    try:
        app(prog_name="driftd")
    except Exception as error:
        if os.environ.get("DRIFTD_DEBUG"):
            raise
        typer.echo(f"driftd: failed: {type(error).__name__}: {error} (DRIFTD_DEBUG=1 shows where)", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
