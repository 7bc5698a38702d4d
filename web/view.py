"""The page in HTML. Twisted's templates escape whatever they are given; nothing is put together as text.

No style and no script is in it: the Content-Security-Policy of `web.serving` would not let them have effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.web.template import Tag, tags

from cyrus_sync.common import __version__
from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING, span
from cyrus_sync.common.metrics.shared import CONFIGDIRECTORY
from cyrus_sync.common.printable import printable
from cyrus_sync.sync_client.overview import DEFAULT
from cyrus_sync.web.facts import Disk, Facts
from cyrus_sync.web.memory import Memory
from cyrus_sync.web.plot import plot
from cyrus_sync.web.troubles import LITTLE, Trouble, troubles, verdict

MOST_ASIDE = 200
"""Who is set aside and shown; the file has all."""

WITHOUT_SCRIPT_SECONDS = 30

_CLASSES = {OK: "ok", WARNING: "warning", CRITICAL: "critical", UNKNOWN: "unknown"}
_VERDICTS = {
    OK: "All is well",
    WARNING: "Something wants attention",
    CRITICAL: "Something is badly wrong",
}


def page(facts: Facts, memory: Memory) -> Tag:
    """The whole document."""
    found = troubles(facts)
    level = verdict(found)
    title = f"{_VERDICTS[level]} – {facts.server}"
    return tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.meta(name="color-scheme", content="light dark"),
            tags.title(_text(title)),
            tags.link(rel="stylesheet", href="style.css"),
            tags.link(rel="icon", href=f"icon-{_CLASSES[level]}.svg"),
            tags.noscript(tags.meta(content=str(WITHOUT_SCRIPT_SECONDS), **{"http-equiv": "refresh"})),
            tags.script(src="script.js", defer=""),
        ),
        tags.body(
            tags.header(
                tags.h1(_text(facts.server)),
                tags.p("as of ", _moment(facts.now), tags.span(id="live", role="status"), class_="when"),
            ),
            Tag("main")(
                _verdict(level, found),
                _channels(facts, memory),
                _asides(facts),
                _packets(facts),
                _store(facts),
                _changes(memory, facts.now),
                id="main",
            ),
            tags.footer(
                tags.p("cyrus-sync ", __version__, ". This page only shows: it changes nothing."),
            ),
        ),
        lang="en",
    )


# -- what is wrong


def _verdict(level: int, found: Sequence[Trouble]) -> Tag:
    return tags.section(
        tags.h2(_badge(level), _VERDICTS[level]),
        tags.ol([_trouble(one) for one in found], class_="troubles") if found else "",
        class_=f"verdict {_CLASSES[level]}",
        id="verdict",
    )


def _trouble(one: Trouble) -> Tag:
    return tags.li(
        tags.p(_badge(one.level), _text(one.text)),
        [tags.pre(tags.code(_text(command)), tabindex="0") for command in one.commands],
        tags.p(_text(one.hint), class_="hint") if one.hint else "",
    )


# -- channels


def _channels(facts: Facts, memory: Memory) -> Tag:
    shown: Any = [_channel(one, facts, memory) for one in facts.channels]
    return _section("channels", "Channels", shown or tags.p("No channel is replicated from this host."))


def _channel(one: dict[str, Any], facts: Facts, memory: Memory) -> Tag:
    name = one["channel"] or DEFAULT
    state = str(one.get("state") or "unknown")
    lag, success = one["oldest_change_seconds"], one["last_success_seconds"]
    rate = one.get("messages_per_minute")
    since = one.get("connected_since")
    terms: list[tuple[str, Any]] = [
        ("Replica", one.get("server") or "–"),
        ("State", state),
        ("Behind", span(lag) if lag is not None else "nothing waits"),
        ("Waiting", f"{one['queue']:,} lines, {one['under_way']:,} under way"),
        ("Last success", f"{span(success)} ago" if success is not None else "never"),
        ("Connected", ["since ", _moment(since)] if since else "no"),
        ("Messages", f"{rate:g} a minute" if rate is not None and one["running"] else "–"),
        ("Set aside", str(one["set_aside"])),
    ]
    return tags.article(
        tags.h3(_badge(one["exit_status"]), _text(name)),
        plot(memory.lags(one["channel"], facts.now), _text(name)),
        tags.dl([tags.div(tags.dt(term), tags.dd(_shown(what))) for term, what in terms]),
        class_="card",
    )


def _asides(facts: Facts) -> Tag:
    if not facts.asides:
        return _section("asides", "Set aside", tags.p("Nobody."))
    rows = [
        [
            tags.th(_text(one.who), scope="row"),
            _text(one.channel or DEFAULT),
            [_text(one.reason), _only(one.only)],
            [_moment(one.since), tags.span(f"{one.failures} times", class_="hint")]
            if one.since
            else "by hand",
            _moment(one.next_retry) if one.next_retry is not None else "never",
        ]
        for one in facts.asides[:MOST_ASIDE]
    ]
    files = sorted({str(one.listing) for one in facts.asides})
    return _section(
        "asides",
        "Set aside",
        _table(("Who", "Channel", "Why", "Since", "Next try"), rows, "Who is set aside"),
        tags.p(f"… and {len(facts.asides) - MOST_ASIDE} more.") if len(facts.asides) > MOST_ASIDE else "",
        tags.p("To have somebody tried at once, remove the entry from ", _codes(files), ".", class_="hint"),
    )


def _only(names: Sequence[str]) -> Any:
    if not names:
        return ""
    return tags.span("Only ", _text(", ".join(names[:5])), "…" if names[5:] else "", class_="hint")


# -- packets


def _packets(facts: Facts) -> Tag:
    health = facts.packets
    if health is None:
        return (
            tags.transparent("")
            if not facts.packets_trouble
            else _section("packets", "Packets", tags.p(_text(facts.packets_trouble)))
        )
    rows = [
        [
            tags.th(_text(one.name), scope="row"),
            _age(one.received, facts.now),
            _age(one.sent, facts.now),
            f"{one.to_send:,}",
            f"{one.on_the_way:,}",
            f"{one.lacking:,}",
            f"{one.packets:,}",
        ]
        for one in health.siblings
    ]
    waits = [f"{count:,} {state}" for state, count in health.pending.items() if count]
    bays = health.bays
    expiry = bays.next_expiry
    return _section(
        "packets",
        f"Packets: {printable(health.replica)} of the family {printable(health.family)}",
        _table(
            ("Sibling", "Heard of", "Told", "To be told", "On the way", "Lacking here", "Packets here"),
            rows,
            "Siblings, and how old the news of them are",
        ),
        tags.ul(
            tags.li(f"{bays.packets:,} packets have come and are not applied"),
            tags.li(
                f"{bays.orders:,} orders lie in the bays, {bays.troubled:,} of them in trouble",
                [", the first expires ", _moment(expiry)] if expiry else "",
            ),
            tags.li("operations that wait: ", ", ".join(waits) or "none"),
            tags.li("This replica is being restored, and tells nothing.") if health.sealed else "",
        ),
    )


# -- the store


def _store(facts: Facts) -> Tag:
    rows = [
        [
            tags.th("configuration" if one.name == CONFIGDIRECTORY else _text(one.name), scope="row"),
            tags.code(_text(one.path)),
            _room(one),
            f"{_size(one.free)} of {_size(one.size)}",
        ]
        for one in facts.disks
    ]
    return _section(
        "store",
        "Store",
        _table(("Partition", "Directory", "Free", ""), rows, "Room on the disks"),
        tags.ul(
            tags.li("This store is ", _text(facts.role), ".") if facts.role else "",
            _scrub(facts),
            [
                tags.li("The certificate ", tags.code(_text(one.path)), " ends ", _moment(one.ends), ".")
                for one in facts.certificates
            ],
        ),
    )


def _room(disk: Disk) -> Tag:
    low = "critical" if disk.share < LITTLE else "ok"
    meter = Tag("meter", {"min": "0", "max": "1", "value": f"{1 - disk.share:.3f}", "class": low})
    return tags.span(meter(f"{1 - disk.share:.0%} used"), f" {disk.share:.0%}")


def _scrub(facts: Facts) -> list[Tag]:
    now, last = facts.scrub, facts.last_scrub
    said = []
    if now is not None:
        how = "is under way" if now.running else "was interrupted"
        said.append(
            tags.li(f"A scrub {how}: {now.owners:,} of {now.of:,} owners, {now.problems:,} problems so far.")
        )
    if last is not None and last.ended:
        found = f"{last.problems:,} problems, {last.healed:,} healed" if last.problems else "nothing wrong"
        said.append(tags.li("The last scrub ended ", _moment(last.ended), f": {found}."))
    if not said:
        said.append(
            tags.li("Nobody has scrubbed this store yet: ", tags.code("mailstore verify --background"), ".")
        )
    return said


# -- what has changed


def _changes(memory: Memory, now: float) -> Tag:
    if not memory.changes:
        return _section("changes", "What has changed", tags.p("Nothing since this page is kept."))
    items = [
        tags.li(_moment(one.when), " ", _badge(one.level), _text(one.text)) for one in memory.changes[:30]
    ]
    del now
    return _section("changes", "What has changed", tags.ul(items, class_="changes"))


# -- parts


def _section(identity: str, title: str, *content: Any) -> Tag:
    heading = f"{identity}-title"
    return tags.section(tags.h2(title, id=heading), content, id=identity, **{"aria-labelledby": heading})


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str) -> Tag:
    body = [
        tags.tr([cell if isinstance(cell, Tag) and cell.tagName == "th" else tags.td(cell) for cell in row])
        for row in rows
    ]
    return tags.div(
        tags.table(
            tags.caption(caption),
            tags.thead(tags.tr([tags.th(name, scope="col") for name in head])),
            tags.tbody(body),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        **{"aria-label": caption},
    )


def _badge(level: int) -> Tag:
    words = {OK: "OK", WARNING: "Warning", CRITICAL: "Critical", UNKNOWN: "Unknown"}
    return tags.span(words[level], class_=f"badge {_CLASSES[level]}")


def _text(value: object) -> str:
    """What others wrote: controls are shown, and turn no writing around. (Escaping is the template's.)"""
    return printable(str(value))


def _shown(value: Any) -> Any:
    return _text(value) if isinstance(value, str) else value


def _moment(seconds: float) -> Tag:
    """A time: for people in the zone of this host, for a browser with its own."""
    moment = datetime.fromtimestamp(int(seconds), UTC)
    here = moment.astimezone()
    return tags.time(f"{here:%Y-%m-%d %H:%M:%S %Z}", datetime=moment.isoformat().replace("+00:00", "Z"))


def _age(since: int | None, now: float) -> Any:
    return "never" if since is None else [f"{span(max(0, now - since))} ago"]


def _codes(words: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for word in words:
        found += [tags.code(_text(word)), " or "]
    return found[:-1]


def _size(octets: float) -> str:
    for unit in ("octets", "KB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}"
        octets /= 1000
    return f"{octets:.1f} TB"
