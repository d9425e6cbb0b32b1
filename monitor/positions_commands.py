"""`driftd positions`: how far each partition has been read, and where to go on instead."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from monitor.terminal import failures, few, opened, standard_output, stop, store_in, table

app = typer.Typer(
    name="positions",
    help="How far each partition has been read: show it, or set it, of a daemon that is stopped.",
    no_args_is_help=True,
)
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store of a daemon, or its folder.")]


@app.command()
def show(store: StorePath) -> None:
    """Say up to where each partition has been read and counted.

    Exit: 0 said, 2 there is no store, 3 it cannot be read.
    """
    with closing(opened(store)) as source:
        rows = [(name, f"{at.offset:,}", at.identity) for name, at in sorted(source.positions().items())]
    standard_output().print(table("positions" if rows else "no positions", ("partition", "next", "of"), rows))


@app.command("set")
def set_(
    store: StorePath,
    partition: Annotated[str, typer.Argument(metavar="PARTITION", help="As `driftd positions show` names it.")],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0, help="The offset to go on at.")],
) -> None:
    """Go on elsewhere in a partition of a topic, also of a topic that was made anew, once the daemon starts again.

    What is passed over is never counted. What is read again is `late`, `duplicate` or `closed`, and counts
    no second time. Exit: 0 set, 2 there is no such partition, 3 a daemon is running.
    """
    from monitor.store import Store  # noqa: PLC0415

    opened(store).close()
    with failures(), closing(Store(store_in(store))) as target:
        known = target.positions()
        if partition not in known:
            stop(2, f"there is no partition {partition!r}; there are: {few(sorted(known)) or 'none'}")
        if known[partition].line or known[partition].identity.startswith(("xxh3-", "spool-")):
            stop(2, f"{partition} is no partition of a topic; only a position in one can be set")
        before = known[partition].offset
        target.set_position(partition, offset)
    typer.echo(f"{partition} goes on at {offset:,}, not at {before:,}")
