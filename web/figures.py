"""What the page tells Prometheus besides packets and bays: the scrub of the store."""

from __future__ import annotations

from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.web.facts import Facts


def add_scrub(sheet: Sheet, facts: Facts) -> None:
    """Of the last scrub that ended, and of the one that is under way."""
    now, last = facts.scrub, facts.last_scrub
    text = "Whether a scrub is under way."
    sheet.gauge("scrub_running", text, float(now is not None and now.running))
    if now is not None:
        sheet.gauge("scrub_owners", "Owners that the present scrub has done.", now.owners)
    if last is not None:
        sheet.gauge("scrub_last_end_timestamp_seconds", "When the last scrub ended.", last.ended)
        for kind, count in (("found", last.problems), ("healed", last.healed)):
            sheet.gauge("scrub_problems", "Problems of the last scrub.", count, kind=kind)
        sheet.gauge("scrub_failed_owners", "Owners whom it could not check.", last.failed)
