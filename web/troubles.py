"""What is wrong, and what to type: each trouble that `Facts` show, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING, span
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.overview import DEFAULT
from cyrus_sync.web.facts import THRESHOLDS, Facts

LITTLE, HARDLY_ANY = 0.1, 0.03
"""Shares of a disk that are free, below which it is a trouble."""

SOON, VERY_SOON = 14 * 86400, 2 * 86400
"""Seconds before a certificate ends."""

AS_CYRUS = "runuser -u cyrus -- "


@dataclass(frozen=True, slots=True)
class Trouble:
    """One. `commands` are to be typed on this host, in this order; `hint` says what for."""

    level: int
    text: str
    commands: tuple[str, ...] = field(default=())
    hint: str = ""


def troubles(facts: Facts) -> list[Trouble]:
    """All of them, the worst first."""
    found = [*_channels(facts), *_packets(facts), *_store(facts)]
    return sorted(found, key=lambda one: -one.level)


def verdict(found: list[Trouble]) -> int:
    """The worst of them: `OK` for none."""
    return max((one.level for one in found), default=OK)


def unit_of(channel: str, *, of_cyrus: bool) -> str:
    """The service of systemd that rolls on a channel."""
    return f"sync_client@{channel}" if channel else "sync_client-cyrus" if of_cyrus else "sync_client"


def _channels(facts: Facts) -> Iterator[Trouble]:
    for one in facts.channels:
        channel = one["channel"]
        name, unit = channel or DEFAULT, unit_of(channel, of_cyrus=facts.of_cyrus)
        option = f" -n {channel}" if channel else ""
        if not one["running"]:
            yield Trouble(
                WARNING if one["exit_status"] == UNKNOWN else CRITICAL,
                f"{name}: no sync_client is running, so nothing is replicated",
                (f"systemctl start {unit}", f"journalctl -u {unit} -n 50"),
                "The second shows why it ended.",
            )
        elif one.get("state") == "waiting to reconnect":
            yield Trouble(
                WARNING,
                f"{name}: there is no connection: {one.get('last_error') or 'no reason known'}",
                (f"systemctl reload {unit}", f"{AS_CYRUS}sync_client --status{option}"),
                "The first has it try at once. Changes wait in the log meanwhile.",
            )
        lag = one["oldest_change_seconds"]
        if lag is not None and lag >= THRESHOLDS.warning:
            yield Trouble(
                CRITICAL if lag >= THRESHOLDS.critical else WARNING,
                f"{name}: the oldest change has waited for {span(lag)}",
                (f"{AS_CYRUS}sync_client --status{option}", f"journalctl -u {unit} -n 50"),
                f"{one['queue']} lines wait, {one['under_way']} items are under way.",
            )
        if one["set_aside"]:
            first = next((aside for aside in facts.asides if aside.channel == channel), None)
            commands = (_retry(first.who, option),) if first else ()
            yield Trouble(
                WARNING,
                f"{name}: {one['set_aside']} set aside; everybody else is replicated",
                commands,
                "Mend what the reason says, then replicate by hand; what is set aside is listed below.",
            )
        if one["withheld_messages"]:
            yield Trouble(
                WARNING,
                f"{name}: {one['withheld_messages']} messages cannot be read here and are not on the replica",
                (f"{AS_CYRUS}mailstore verify", f"{AS_CYRUS}mailstore repair --from-peer"),
                "The first names them, the second has them back from the other side.",
            )
        for what in one["left_out"]:
            yield Trouble(
                WARNING, f"{name}: left out: {what}", (), "The owner has to mend it; then it goes by itself."
            )
    damaged = max((one["damaged_owners"] for one in facts.channels), default=0)
    if damaged:
        yield Trouble(
            WARNING,
            f"{damaged} owners here have damaged messages",
            (f"{AS_CYRUS}mailstore repair --from-peer",),
            "Fetches them from the other side, by their GUIDs.",
        )


def _retry(who: str, option: str) -> str:
    owner = Owner("shared", who.partition(":")[2]) if who.startswith("shared:") else None
    if owner is not None:
        return f"{AS_CYRUS}sync_client{option} -v -m {_quoted(owner.name)}"
    return f"{AS_CYRUS}sync_client{option} -v -u {_quoted(who)}"


def _quoted(word: str) -> str:
    """For a shell. Whoever has such a name may have chosen it for this place."""
    if word and all(letter.isalnum() or letter in "@._-/+" for letter in word) and word[0] != "-":
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _packets(facts: Facts) -> Iterator[Trouble]:
    if facts.packets_trouble:
        yield Trouble(CRITICAL, f"packets: {facts.packets_trouble}", ("multitool describe",))
    if facts.packets is not None and facts.packets.exit_status != OK:
        for reason in facts.packets.reasons:
            yield Trouble(facts.packets.exit_status, f"packets: {reason}", (f"{AS_CYRUS}multitool status",))


def _store(facts: Facts) -> Iterator[Trouble]:
    for text in facts.failed:
        yield Trouble(WARNING, f"could not be looked at: {text}")
    for disk in facts.disks:
        if disk.share < LITTLE:
            yield Trouble(
                CRITICAL if disk.share < HARDLY_ANY else WARNING,
                f"{disk.share:.0%} are left on partition {disk.name} ({disk.path})",
                (f"{AS_CYRUS}mailstore stats", f"{AS_CYRUS}mailstore expire"),
                "The second gives back the space of what was deleted long ago.",
            )
    for certificate in facts.certificates:
        left = certificate.ends - facts.now
        if left < SOON:
            when = f"ends in {span(left)}" if left > 0 else f"has ended {span(-left)} ago"
            yield Trouble(
                CRITICAL if left < VERY_SOON else WARNING,
                f"the certificate {certificate.path} {when}",
                ("systemctl reload sync_server",),
                "When a new one is in its place.",
            )
    scrub = facts.last_scrub
    if scrub is not None and (scrub.problems > scrub.healed or scrub.failed):
        yield Trouble(
            WARNING,
            f"the last scrub found {scrub.problems} problems, {scrub.healed} are healed",
            (f"{AS_CYRUS}mailstore verify", f"{AS_CYRUS}mailstore repair --from-peer"),
            "The first names them.",
        )
