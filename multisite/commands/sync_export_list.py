"""sync_export_list: update packets for many replicas, for a timer; and what waits in the bays.

A list file has a line for each group of replicas, with what goes for them instead of the command line::

    # replicas, with blanks or commas between them, then options
    boston_hub, sydney   -maxsize 10m -sclass daily
    bangalore            -ship -update
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import DASHES, Grammar, Option, Parsed
from cyrus_sync.multisite.commands.context import EXIT_STATUS, Context
from cyrus_sync.multisite.commands.scheduled import (
    SCHEDULED_OPTIONS,
    Run,
    lock_words,
    logged,
    patience,
    quietness,
)
from cyrus_sync.multisite.commands.sizes import parse_count, parse_size
from cyrus_sync.multisite.commands.turns import turn
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.shipping.run import poll

LINE_OPTIONS = (
    Option("f/ship", "", "put packets into a storage bay and send them at once (as without -ship)"),
    Option("sh/ip", "", "put them into a bay; -poll, or shipping_server -poll, sends them"),
    Option("sc/lass", "class", "the storage class; without it, that of the replica"),
    Option("m/axsize", "N[k|m|g]", "cut into packets that are no larger than this; a bare number is KB"),
    Option("li/mit", "n", "with -maxsize: at most n packets; the rest waits for the next run"),
    Option("u/pdate", "", "first ask the replica over the line what it has (chepoch -actual -raise_only)"),
    Option("co/mpress", "", "accepted: packets are always compressed"),
)
"""Options that may stand in a line of the list file, too."""

GRAMMAR = Grammar(
    "sync_export_list",
    [
        Option("a/ll", "", "to all other replicas of the family"),
        Option("r/eplicas", "list", "to these, with commas between them (repeatable)", repeatable=True),
        *LINE_OPTIONS,
        Option("p/oll", "", "then carry out all orders in the bays (shipping_server -poll)"),
        Option("i/terate", "n", "with -poll: up to n times, until nothing is left (1)"),
        Option("wa/it", "seconds", "with -iterate: so long in between (60)"),
        *SCHEDULED_OPTIONS,
    ],
    "[list-file]",
    "Write update packets for many replicas, and send them. Meant for timers: a run that goes well prints\n"
    "nothing, one that finds another run at work waits for it, and there is never more than one that waits.",
    EXIT_STATUS,
)

_LINE = Grammar("", LINE_OPTIONS)
WAIT = 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """A replica to export to, and how."""

    selector: str
    options: Parsed = field(default_factory=Parsed)


def run(context: Context) -> int:
    """Export to everybody who is meant, then send what is in the bays."""
    options = context.options
    _check(options)
    quietness(context)
    wanted = list(_wanted(options))
    for given in (options, *(one.options for one in wanted)):
        if "limit" in given and "maxsize" not in given and "maxsize" not in options:
            raise UsageError("-limit needs -maxsize")
    directory = directory_of(context.config)
    Family.load(directory)
    with turn(directory, context.program, patience(context)) as ours:
        if not ours:
            context.notice("another run is about to begin, and does this, too")
            return EX_OK
        with logged(context) as this:
            for one in _targets(context, wanted, this):
                _export(context, this, one)
            if "poll" in options:
                _poll(context, this)
    return this.status


def _check(options: Parsed) -> None:
    named = "replicas" in options or bool(options.operands)
    if len(options.operands) > 1:
        raise UsageError("one list file is enough")
    if "all" in options and named:
        raise UsageError("-all exports to everybody; -replicas and a list file to some")
    if not (named or "all" in options or "poll" in options):
        raise UsageError("-all, -replicas or a list file is needed (or -poll alone)")
    if "iterate" in options and "poll" not in options:
        raise UsageError("-iterate goes with -poll")
    if "wait" in options and "iterate" not in options:
        raise UsageError("-wait goes with -iterate")
    for name in ("iterate", "wait"):
        if (typed := options.text(name)) is not None:
            parse_count(typed, f"-{name}")
    _check_line(options)


def _check_line(options: Parsed) -> None:
    if "ship" in options and "fship" in options:
        raise UsageError("-fship and -ship exclude one another")
    if (size := options.text("maxsize")) is not None:
        parse_size(size, "-maxsize")
    if (limit := options.text("limit")) is not None:
        parse_count(limit, "-limit")


# -- who, and how


def _wanted(options: Parsed) -> Iterator[Wanted]:
    for text in options.texts("replicas"):
        for selector in text.replace(",", " ").split():
            yield Wanted(selector)
    for operand in options.operands:
        yield from read_list(Path(operand))


def read_list(path: Path) -> Iterator[Wanted]:
    """What a list file says. Raises `UsageError`, which names the line, and OSError."""
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            end = next((at for at, word in enumerate(words) if word[0] in DASHES), len(words))
            options = _LINE.parse(words[end:])
            _check_line(options)
            if options.operands or (words and not end):
                raise UsageError("replicas come first, then options")
        except (ValueError, UsageError) as error:
            raise UsageError(f"{path}:{number}: {error}") from None
        for selector in " ".join(words[:end]).replace(",", " ").split():
            yield Wanted(selector, options)


def _targets(context: Context, wanted: list[Wanted], this: Run) -> Iterator[tuple[Replica, Parsed]]:
    """Every replica that is meant, once. One that is not known is said."""
    family = context.family
    if "all" in context.options:
        yield from ((one, Parsed()) for one in family.living() if one.id != family.self_id)
        return
    seen: set[str] = set()
    for one in wanted:
        try:
            replica = family.find(one.selector)
        except MultisiteError as error:
            this.fail(str(error))
            continue
        if replica.id == family.self_id:
            this.fail(f"{replica.name} is this replica itself")
        elif replica.id not in seen:
            seen.add(replica.id)
            yield replica, one.options


def _export(context: Context, this: Run, target: tuple[Replica, Parsed]) -> None:
    replica, line = target

    def said(name: str) -> str | None:
        return line.text(name) or context.options.text(name)

    def is_said(name: str) -> bool:
        return name in line or name in context.options

    if is_said("update"):
        this.command("chepoch", *lock_words(context), "-force", "-actual", "-raise_only", replica.name)
    ships = "ship" in line or ("ship" in context.options and "fship" not in line)
    words = ["-export", "-ship" if ships else "-fship", *lock_words(context)]
    for name in ("sclass", "maxsize"):
        if (value := said(name)) is not None:
            words += [f"-{name}", value]
    if (limit := said("limit")) is not None:
        words += ["-limit", limit]
    this.command("syncreplica", *words, replica.name)


# -- what waits in the bays


def _poll(context: Context, this: Run) -> None:
    options = context.options
    tries = parse_count(options.text("iterate") or "1", "-iterate")
    pause = parse_count(options.text("wait") or str(WAIT), "-wait")
    for left in reversed(range(tries)):
        if "trace" in options:
            context.print("+ shipping_server -poll")
        before = this.well
        if this.step(lambda: poll(context.site, options.text("sclass"))) or not left:
            return
        this.well = before
        sleep(pause)
