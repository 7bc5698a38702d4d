"""Spools that real Cyruses wrote (tests/data/spool/mailboxes), and what their servers said of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol.crc import VIRTUAL_PREFIX
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.snapshot import Snapshot, take

DATA = Path(__file__).parents[1] / "data" / "spool" / "mailboxes"
NAMES = sorted(path.name for path in DATA.iterdir() if path.is_dir())
MOVED = "v16-moved-keywords"
SOUND = [name for name in NAMES if name != MOVED]
"""Those of which the sync CRCs that Cyrus stored are right."""

OWNER = "alice"


def files(directory: Path) -> MailboxFiles:
    return MailboxFiles.below(directory, directory / "archive")


def snapshot(directory: Path, **how: Any) -> Snapshot:
    return take(files(directory), OWNER, items_of, **how)


def copied(name: str, to: Path) -> Path:
    """One of them in a directory where it may be changed."""
    return Path(shutil.copytree(DATA / name, to / name))


def told(name: str) -> dict[str, Any]:
    """What GET FULLMAILBOX said; octets as characters."""
    mailbox: dict[str, Any] = json.loads((DATA / name / "told.json").read_text())["mailbox"]
    return mailbox


def told_records(mailbox: dict[str, Any]) -> list[Record]:
    return [_record(said) for said in mailbox["RECORD"]]


def _record(said: dict[str, Any]) -> Record:
    flags = [flag for flag in said["FLAGS"] if flag != "\\Expunged"]
    virtual: dict[str, int] = {}
    annotations = []
    for one in said.get("ANNOTATIONS", []):
        entry = one["ENTRY"].removeprefix(VIRTUAL_PREFIX)
        if entry in ("thrid", "savedate", "createdmodseq"):
            virtual[entry] = int(one["VALUE"], 16 if entry == "thrid" else 10)
        else:
            value = one["VALUE"].encode("latin-1")
            annotations.append(Annotation(one["ENTRY"], one["USERID"] or "", int(one["MODSEQ"]), value))
    return Record(
        int(said["UID"]),
        int(said["MODSEQ"]),
        int(said["LAST_UPDATED"]),
        " ".join(flags),
        "\\Expunged" in said["FLAGS"],
        int(said["INTERNALDATE"]),
        int(said["SIZE"]),
        bytes.fromhex(said["GUID"]),
        annotations=tuple(sorted(annotations, key=lambda one: (one.entry, one.userid))),
        **virtual,
    )


def records(of: Snapshot) -> list[Record]:
    return [record for batch in of.records() for record in batch]
