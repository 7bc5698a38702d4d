"""What a server tells of folders besides their messages: rights, annotations, what they are for.

None of it shows in a folder's counters, so all of it is asked for. What a server does not tell is left as it
is here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cyrus_sync.common.identity import annotation_values
from cyrus_sync.common.model import Annotation, MailboxState
from cyrus_sync.common.names import Owner, login_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.pull.answers import octets, parsed
from cyrus_sync.pull.connection import Large
from cyrus_sync.pull.errors import Refused
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.listing import Listing
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session

SPECIAL_USE = "/specialuse"
_RIGHTS = re.compile(r"[a-z0-9]*")
_IDENTIFIER = re.compile(r"[ !#$&-\[\]-~]{1,1023}")
_COMPUTED = re.compile(
    r"/(?:private|shared)/vendor/cmu/cyrus-imapd/"
    r"(?!(?:expire|archive|delete|squat|sieve|thread|news2mail|noexpire_until|search-fuzzy-always)\Z).*"
)
"""What a Cyrus tells of a mailbox as if it were annotations: its size, its partition."""

_TOLD = re.compile(r"/(?:private|shared)/.+")


class About:
    """Of the folders of `userid`. What is left out is added to `done`."""

    def __init__(self, session: Session, store: MailStore, userid: str, done: Pulled) -> None:
        self._session = session
        self._store = store
        self._userid = userid
        self._done = done

    def folder(self, folder: Folder, mailbox: MailboxState, *, thorough: bool) -> bool:
        """Rights, annotations, and what it is for; whether our mailbox has changed. Without `thorough`, the
        last alone: the list said that."""
        acl = self._acl(folder, mailbox) if thorough else None
        notes = self._annotations(folder, mailbox) if thorough else None
        wanted = self._with_uses(mailbox, folder, notes)
        same = annotation_values(wanted) == annotation_values(mailbox.annotations)
        if acl is None and same:
            return False
        with self._store.write(folder.owner, timeout=LOCK_TIMEOUT) as writer:
            writer.change_header(mailbox.uniqueid, acl=acl, annotations=None if same else wanted)
        self._done.besides += 1
        return True

    # -- rights (RFC 4314)

    def _acl(self, folder: Folder, mailbox: MailboxState) -> str | None:
        """The ACL as Cyrus writes it; None where it is not told."""
        if not self._session.offers("ACL"):
            return None
        try:
            answers = self._session.command("GETACL", folder.wire).get("ACL", [])
        except Refused:
            return None  # he may not administer it
        entries: dict[str, str] = {}
        for words in parsed(answers):
            for who, rights in zip(words[1::2], words[2::2], strict=False):
                name = self._identifier(octets(who).decode("utf-8", "replace"), folder.owner)
                letters = octets(rights).decode("ascii", "replace")
                if _IDENTIFIER.fullmatch(name) and _RIGHTS.fullmatch(letters):
                    entries[name] = "".join(dict.fromkeys(entries.get(name, "") + letters))
                else:
                    self._done.troubles.append(
                        f"{folder.shown}: rights of {name} are left out: no ACL holds that"
                    )
        if not entries:
            return None
        there = dict(_entries(mailbox.acl))
        if {name: set(rights) for name, rights in there.items()} == {n: set(r) for n, r in entries.items()}:
            return None
        return "".join(f"{name}\t{rights}\t" for name, rights in entries.items())

    def _identifier(self, name: str, owner: Owner) -> str:
        """As a Cyrus calls whom Dovecot calls so."""
        sign, bare = ("-", name[1:]) if name.startswith("-") else ("", name)
        if bare in ("owner", "#owner"):
            bare = login_of(owner.name) if owner.kind == "user" else bare
        elif bare == "authenticated":
            bare = "anyone"
        elif bare.startswith("$"):
            bare = f"group:{bare[1:]}"
        return sign + bare

    # -- annotations (RFC 5464) and special use (RFC 6154)

    def _annotations(self, folder: Folder, mailbox: MailboxState) -> list[Annotation] | None:
        """The annotations that the server has of a folder; None where it tells none."""
        if not self._session.offers("METADATA"):
            return None
        found: list[Annotation] = []
        try:
            answers = self._session.command(
                "GETMETADATA", b"(DEPTH infinity)", folder.wire, b"(/private /shared)"
            )
        except Refused:
            return None
        for words in parsed(answers.get("METADATA", [])):
            told = words[1] if len(words) > 1 and isinstance(words[1], tuple) else ()
            for entry, value in zip(told[::2], told[1::2], strict=False):
                name = octets(entry).decode("utf-8", "replace")
                if not _TOLD.fullmatch(name) or value is None or name == f"/private{SPECIAL_USE}":
                    continue
                if _COMPUTED.fullmatch(name):
                    continue
                private = name.startswith("/private/")
                user = login_of(self._userid) if private else ""
                content = b"".join(value) if isinstance(value, Large) else octets(value)
                if content:
                    found.append(
                        Annotation(name.removeprefix("/private").removeprefix("/shared"), user, 0, content)
                    )
        return found

    def _with_uses(
        self, mailbox: MailboxState, folder: Folder, told: list[Annotation] | None
    ) -> list[Annotation]:
        """Annotations as they shall be: those of others stay, those that are told come."""
        mine = login_of(self._userid)
        uses = " ".join(sorted(folder.uses)).encode()
        kept = [
            note
            for note in mailbox.annotations
            if (told is None or note.userid not in ("", mine)) and note.entry != SPECIAL_USE
        ]
        if not self._session.offers("SPECIAL-USE"):
            kept += [note for note in mailbox.annotations if note.entry == SPECIAL_USE]
        elif uses:
            kept.append(Annotation(SPECIAL_USE, mine, 0, uses))
        modseqs = {(note.entry, note.userid): note for note in mailbox.annotations}
        wanted = []
        for note in [*kept, *(told or ())]:
            was = modseqs.get((note.entry, note.userid))
            same = was is not None and was.value == note.value
            wanted.append(
                was if was is not None and same else note._replace(modseq=mailbox.highestmodseq + 1)
            )
        return wanted

    # -- subscriptions

    def subscriptions(self, listing: Listing) -> None:
        """The user's become those at the server."""
        owner = Owner("user", self._userid)
        with self._store.read(owner) as reader:
            there = set(reader.meta(with_sieve=False).subscriptions)
        if there == listing.subscribed:
            return
        with self._store.write(owner, timeout=LOCK_TIMEOUT) as writer:
            for name in sorted(listing.subscribed - there):
                writer.subscribe(name)
            for name in sorted(there - listing.subscribed):
                writer.subscribe(name, False)
        self._done.besides += 1


def _entries(acl: str) -> Iterator[tuple[str, str]]:
    parts = acl.split("\t")
    return zip(parts[::2], parts[1::2], strict=False)
