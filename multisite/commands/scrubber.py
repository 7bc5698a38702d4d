"""scrubber: let go of what the operations log and the logs hold of long ago, or say what would go."""

from __future__ import annotations

from collections.abc import Iterator

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.health import span
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.scrubbing import Ages, Scrubbed, remake, scrub
from cyrus_sync.multisite.working import bring_up_to_date

GRAMMAR = Grammar(
    "multitool scrubber",
    [
        Option("n/op", "", "only say what would go"),
        Option("k/eep", "days", "how long operations stay that everybody has (multisite_keep)"),
        Option("u/nheard", "days", "how long the others stay; 0 = for ever (multisite_keep_unheard)"),
        *COMMON_OPTIONS,
    ],
    "",
    "Trim the operations log, the notes of exports, and the logs of packets and shipping. Operations that\n"
    "all replicas have shown to have go after multisite_keep, others after multisite_keep_unheard. A\n"
    "replica that lacks some of those is made anew (mkreplica -export -replace). Exports and imports do\n"
    "this once a day; multitool-scrubber.timer does it where there are none.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Scrub."""
    options = context.options
    if options.operands:
        raise UsageError("scrubber takes no operands")
    keep, unheard = (_seconds(context, name) for name in ("keep", "unheard"))
    with context.member() as member:
        member.check_unsealed()
        bring_up_to_date(member, context.notice)
        said = Ages.of(member)
        ages = Ages(said.keep if keep is None else keep, said.unheard if unheard is None else unheard)
        done = scrub(member, ages, dry="nop" in options)
        for line in _lines(member, done, ages, dry="nop" in options):
            context.print(line)
            context.log.info(line)
    return EX_OK


def _seconds(context: Context, name: str) -> int | None:
    typed = context.options.text(name)
    if typed is None:
        return None
    days = decimal(typed, 99_999)
    if days is None:
        raise UsageError(f"-{name} {typed}: a number of days is needed")
    return days * 86400


def _lines(member: Member, done: Scrubbed, ages: Ages, *, dry: bool) -> Iterator[str]:
    would = "would be " if dry else ""
    family = member.family
    for origin, count in done.operations.items():
        yield f"operations of {family.name_of(origin)} {would}trimmed: {count}"
    for count, what in (
        (done.exports, "notes of exports"),
        (done.lines, "lines of logs"),
        (done.files, "logs of single runs"),
    ):
        if count:
            yield f"{what} {would}removed: {count}"
    for one in sorted(done.unheard, key=family.name_of):
        yield (
            f"{family.name_of(one)} is not known to have all of them, and has not been for"
            f" {span(ages.unheard)}; if it lacks some: {remake(family, one)}"
        )
    if not (done.operations or done.exports or done.lines or done.files):
        yield "nothing is old enough"
