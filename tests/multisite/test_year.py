"""Nothing grows for ever: daily exchanges go on and on, and the log takes no more room than its time needs.

``MULTISITE_YEAR=1`` plays a whole year among five sites with the default ages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.multisite.mail import append, create, flag, message, same_everywhere
from tests.multisite.world import Site, carry, family_of

WHOLE = bool(os.environ.get("MULTISITE_YEAR"))
KEEP = 30 if WHOLE else 3
DAYS = 365 if WHOLE else 26
LEAVES = ("boston", "sanfran", "sydney", "paris") if WHOLE else ("boston", "sydney")
SHOWN_WITHIN = 8 if WHOLE else 2
"""Days within which every site has heard of a change, and shown it."""
A_DAY = 20 if WHOLE else 60
"""Messages that each site gets a day."""


@dataclass
class Days:
    """A clock that is driven."""

    now: float = 1_900_000_000.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def size(site: Site) -> int:
    """Bytes of everything that packets need beside the mail: the log, notes, logs."""
    places = (site.directory / "conf" / name for name in ("multisite", "log", "sync"))
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def test_log_and_files_stay_within_twice_of_what_their_time_needs(tmp_path: Path) -> None:
    days = Days()
    hub, *leaves = sites = family_of(tmp_path, "hub", *LEAVES, clock=days)
    for site in sites:
        config = site.directory / "imapd.conf"
        config.write_text(f"{config.read_text()}multisite_keep: {KEEP}d\n")
        create(site, f"user.{site.name}")
    needed: dict[str, int] = {}
    for day in range(DAYS):
        days.now += 86400
        for site in sites:
            name = f"user.{site.name}"
            append(site, name, *(message(f"{site.name} {day} {n}", 300) for n in range(A_DAY)))
            flag(site, name, day * A_DAY + 1, "\\Seen")
        for leaf in leaves:
            carry(leaf, hub, tmp_path / "t")
            carry(hub, leaf, tmp_path / "t")
        if day == KEEP + SHOWN_WITHIN:
            needed = {site.name: size(site) for site in sites}
    grown = {site.name: size(site) / needed[site.name] for site in sites}
    print(needed, grown)
    assert max(grown.values()) <= 2, grown
    for _ in range(2):
        for leaf in leaves:
            carry(leaf, hub, tmp_path / "t")
            carry(hub, leaf, tmp_path / "t")
    assert same_everywhere(sites)
    with sites[1].member() as member:
        last = member.log.operations.last(member.log.self_id)
        assert member.log.trimmed.row()[member.log.self_id] > last / 2, "most of it was trimmed"
