"""The report of a comparison: lines for a person, or a signed JSON document.

Both are made of the file of progress, an owner at a time: a hundred thousand that differ take no more memory
than one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.counted import counted, mailboxes
from cyrus_sync.common.printable import printable
from cyrus_sync.sync_client.comparing.findings import lines_of
from cyrus_sync.sync_client.comparing.progress import Progress
from cyrus_sync.sync_client.comparing.signing import BadReport, ReportKey, Signer, checked

FORMAT = "cyrus-sync comparison 1"


@dataclass(frozen=True, slots=True)
class About:
    """What a report says besides what was found. Times in Unix seconds."""

    master: str
    source: str
    """``store`` or ``cyrus``: whose mail is here."""
    replica: str
    channel: str
    asked: Mapping[str, Any]
    ended: float
    limits: tuple[str, ...]
    """What could not be looked at, in sentences."""
    failed_names: int = 0
    """Names on the command line that are none."""


def time_of(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def is_equal(progress: Progress) -> bool:
    return not (progress.differing or progress.failed)


# -- for a person


def entry_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """An owner who differs or could not be compared."""
    if "error" in entry:
        yield printable(f"{entry['owner']} could not be compared: {entry['error']}")
    else:
        for line in lines_of(entry["found"]):
            yield printable(line)


def summary(progress: Progress, about: About) -> Iterator[str]:
    """The last lines."""
    counts = progress.counts
    parts = [counted(counts.owners, "owner"), mailboxes(counts.mailboxes)]
    if counts.records:
        parts.append(counted(counts.records, "record"))
    if counts.messages:
        parts.append(f"{counted(counts.messages, 'message')} ({counts.octets} octets) at both ends")
    yield (
        f"compared by {about.asked['depth']} with {about.replica}: {', '.join(parts)},"
        f" {time_of(progress.begun)} to {time_of(about.ended)}"
    )
    yield from about.limits
    if is_equal(progress):
        yield "no difference"
    else:
        yield f"different: {counted(progress.differing, 'owner')}; could not be compared: {progress.failed}"


# -- for a program


def document(progress: Progress, about: About, signer: Signer) -> Iterator[str]:
    """The JSON text in pieces, signed."""

    def piece(text: str) -> str:
        signer.update(text.encode())
        return text

    head = {
        "format": FORMAT,
        "master": about.master,
        "source": about.source,
        "replica": about.replica,
        "channel": about.channel,
        "asked": dict(about.asked),
        "begun": time_of(progress.begun),
        "ended": time_of(about.ended),
        "interrupted": progress.went_on,
        "equal": is_equal(progress) and not about.failed_names,
        "counts": progress.counts.as_json() | {"differing": progress.differing, "failed": progress.failed},
        "not_looked_at": list(about.limits),
        "key": signer.key.text(),
    }
    yield piece("{\n" + "".join(f"  {json.dumps(k)}: {json.dumps(v)},\n" for k, v in head.items()))
    for number, (member, kind) in enumerate((("differing", "found"), ("failed", "error"))):
        yield piece(f'{"," * bool(number)}{chr(10) * bool(number)}  "{member}": [')
        separator = "\n    "
        for entry in progress.entries():
            if kind in entry:
                value = (
                    entry["found"] if kind == "found" else {"owner": entry["owner"], "error": entry["error"]}
                )
                yield piece(separator + json.dumps(value))
                separator = ",\n    "
        yield piece("]")
    yield f',\n  "signature": "{signer.signature()}"\n}}\n'


# -- who reads a report later


def verdict(octets: bytes, expected: ReportKey | None) -> tuple[str, bool]:
    """What is to be said of a report that ought to be signed with `expected`, and whether it can be
    believed."""
    try:
        report, key = checked(octets)
    except BadReport as error:
        return f"NOT GOOD: {error.message}", False
    counts = report["counts"]
    different = f"different: {counts['differing']}, failed: {counts['failed']}"
    said = (
        f"{report['master']} with {report['replica']} by {report['asked']['depth']},"
        f" {report['begun']} to {report['ended']}: {counted(counts['owners'], 'owner')},"
        f" {mailboxes(counts['mailboxes'])}, {'no difference' if report['equal'] else different}"
    )
    if expected is None:
        return f"NOT GOOD: whole, but nothing says whose key {key.fingerprint()} is (--key): {said}", False
    if key != expected:
        return (
            f"NOT GOOD: signed with the key {key.fingerprint()}, not with {expected.fingerprint()}: {said}",
            False,
        )
    return f"GOOD: as it was signed with the key {key.fingerprint()}: {said}", True
