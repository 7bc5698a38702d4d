"""The lifeboat answers what the real Cyrus answers of the same mail: a user notices no difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.lifeboat.corpus import CORPUS, PLAIN
from tests.lifeboat.kit import afloat

from .cyrus import ADMIN, PASSWORD, Cyrus
from .imap import Imap, parse
from .ours import Ours

FLAGS = (
    "\\Seen",
    "\\Flagged \\Answered",
    "$Forwarded",
    "",
    "\\Draft",
    "\\Deleted \\Seen",
    "Work",
    "",
    "",
    "",
)
DATES = tuple(f"{day:2d}-Oct-2026 12:00:00 +0000" for day in range(1, len(CORPUS) + 1))


class Pair(NamedTuple):
    """The same mail at both servers."""

    real: Imap
    boat: Imap

    def same(self, *words: str) -> list[object]:
        """What both answer to a command, which must be the same but for the order of lines and flags."""
        theirs, ours = (self._answers(side, words) for side in self)
        assert ours == theirs
        return ours

    @staticmethod
    def _answers(side: Imap, words: tuple[str, ...]) -> list[object]:
        final, untagged = side.command(*words)
        lines = [_comparable(line) for line in untagged if not line.startswith((b"* OK", b"* FLAGS"))]
        return [final.split(" ")[0], *sorted(lines, key=repr)]


def _comparable(line: bytes) -> object:
    words = _sorted_flags(parse(line.removeprefix(b"* ")))
    if words[1:2] == [b"FETCH"]:
        items = words[2]
        assert isinstance(items, list)
        return [*words[:2], sorted(zip(items[0::2], items[1::2], strict=True), key=repr)]
    return words


def _sorted_flags(words: list[object]) -> list[object]:
    """Flags and attributes have no order."""
    found: list[object] = []
    for word in words:
        if isinstance(word, list):
            flags = bool(word) and all(
                isinstance(one, bytes) and one.startswith((b"\\", b"$", b"Work")) for one in word
            )
            found.append(sorted(word) if flags else _sorted_flags(word))
        else:
            found.append(word)
    return found


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    settings = {"altnamespace": "yes", "conversations": "no", "specialusealways": "yes"}
    with Cyrus.running("ashore", settings) as real, Ours.installed("boat") as ours:
        real.create_user("alice", "bob")
        _fill(real)
        for user in ("alice", "bob"):
            real.sync_client("-u", user, to=("127.0.0.1", ours.port)).check()
        with (
            afloat(ours.config) as boat_there,
            real.imap("alice") as theirs,
            Imap("127.0.0.1", boat_there.port, "alice", ADMIN, PASSWORD) as boat,
        ):
            yield Pair(theirs, boat)


def _fill(real: Cyrus) -> None:
    with real.imap("alice") as imap:
        for folder in ("Work", "Work/2026.a", "Entw&APw-rfe", "Sent", "Far/below"):
            imap.ok("CREATE", f'"{folder}"')
        imap.ok("SETMETADATA", "Sent", '(/private/specialuse "\\\\Sent")')
        for message, flags, date in zip(CORPUS.values(), FLAGS, DATES, strict=True):
            imap.ok("APPEND", "INBOX", f"({flags})", f'"{date}"', message)
        imap.ok("APPEND", "Work", "()", PLAIN)
        for folder in ("INBOX", "Work/2026.a", "Gone"):
            imap.command("SUBSCRIBE", f'"{folder}"')
    with real.imap("bob") as imap:
        imap.ok("CREATE", "Plans")
        imap.ok("APPEND", "Plans", "(\\Seen)", PLAIN)
        imap.ok("APPEND", "Plans", "()", PLAIN)
        imap.ok("SETACL", "Plans", "alice", "lrs")
    with real.imap("alice") as imap:
        imap.ok("SUBSCRIBE", '"Other Users/bob/Plans"')
        imap.ok("SELECT", '"Other Users/bob/Plans"')
        imap.ok("STORE", "2", "+FLAGS", "(\\Seen)")


ITEMS = (
    "FLAGS UID INTERNALDATE RFC822.SIZE",
    "ENVELOPE",
    "BODY",
    "BODYSTRUCTURE",
    "BODY.PEEK[] RFC822.HEADER",
    "BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1]",
    "BODY.PEEK[HEADER.FIELDS (SUBJECT X-Long)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (Subject From)]",
    "BODY.PEEK[]<3.17> BODY.PEEK[TEXT]<100000.5>",
    "BODY.PEEK[2] BODY.PEEK[3] BODY.PEEK[4]",
    "BODY.PEEK[1.MIME] BODY.PEEK[2.MIME]",
    "BODY.PEEK[3.HEADER] BODY.PEEK[3.TEXT] BODY.PEEK[3.1] BODY.PEEK[2.1] BODY.PEEK[2.2.MIME]",
    "MODSEQ",
)


@pytest.mark.parametrize("number", range(1, len(CORPUS) + 1), ids=list(CORPUS))
def test_every_part_of_every_message_is_the_same(pair: Pair, number: int) -> None:
    pair.real.ok("EXAMINE", "INBOX")
    pair.boat.ok("EXAMINE", "INBOX")
    for items in ITEMS:
        pair.same("FETCH", str(number), f"({items})")


SEARCHES = (
    *("ALL", "SEEN", "UNSEEN", "FLAGGED", "ANSWERED", "DRAFT UNDELETED", "DELETED", "NEW", "OLD"),
    *("KEYWORD Work", "UNKEYWORD $Forwarded", "SUBJECT grüße", "FROM doe", "TO bob", 'HEADER X-Long ""'),
    *("HEADER X-Long again", "BODY plain", "TEXT example.org", "BODY Grüße", "BODY deep"),
    *("LARGER 300", "SMALLER 100", "2:4", "*", "UID 1:3", "NOT 1", "OR SEEN SUBJECT nested"),
    *("(SEEN) NOT (DELETED)", "SINCE 4-Oct-2026", "BEFORE 4-Oct-2026", "ON 4-Oct-2026", "MODSEQ 5"),
    *("SENTON 2-Nov-2026", "SENTSINCE 3-Nov-2026", "SENTBEFORE 3-Nov-2026"),
)


@pytest.mark.parametrize("program", SEARCHES)
def test_searches_find_the_same(pair: Pair, program: str) -> None:
    pair.real.ok("EXAMINE", "INBOX")
    pair.boat.ok("EXAMINE", "INBOX")
    charset = "" if program.isascii() else "CHARSET UTF-8 "
    words = charset + program.encode().decode("latin-1")
    pair.same("UID", "SEARCH", words)
    pair.same("SEARCH", words)


def test_folders_have_the_same_names_attributes_and_figures(pair: Pair) -> None:
    for reference, pattern in (
        ('""', '"*"'),
        ('""', '"%"'),
        ('""', '""'),
        ('""', '"Work/%"'),
        ('"Work/"', '"%"'),
    ):
        pair.same("LIST", reference, pattern)
    for pattern in ('"*"', '"%"'):
        pair.same("LSUB", '""', pattern)
    pair.same("NAMESPACE")
    for name in ("INBOX", "Work", "Sent", "Entw&APw-rfe", '"Other Users/bob/Plans"'):
        pair.same("STATUS", name, "(MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)")
    pair.same("STATUS", "Nowhere", "(MESSAGES)")
    pair.same("STATUS", '"Other Users/bob"', "(MESSAGES)")


def test_what_is_seen_in_the_mailbox_of_another_is_the_users_own(pair: Pair) -> None:
    name = '"Other Users/bob/Plans"'
    pair.real.ok("EXAMINE", name)
    pair.boat.ok("EXAMINE", name)
    pair.same("FETCH", "1:*", "(UID FLAGS)")
    pair.same("UID", "SEARCH", "UNSEEN")
