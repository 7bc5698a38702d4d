"""Record what two real ends of a release say to each other, for tests that need no real Cyrus.

    python -m tests.interop.record RELEASE [DIRECTORY]

Into tests/data/transcripts/RELEASE, in the form that tests/data/README.md describes. Compression is not
offered, so the octets can be read. Nothing changes at the replica but what the conversations bring: our
server, which hears the same, has to say the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.deadlines import until

from .cyrus import Cyrus
from .fill import SCRIPT, message
from .imap import quote
from .proxy import Conversation, Proxy
from .releases import RELEASES, chosen
from .running import Finished

DATA = Path(__file__).parents[1] / "data" / "transcripts"
_LITERAL = re.compile(rb"\{(?:\S+ \S+ )?(\d+)\+?\}\r\n$")
_FINAL = re.compile(rb"(OK|NO|BAD)\b")


def units(stream: bytes) -> Iterator[bytes]:
    """Logical lines, with the octets of their literals."""
    at = 0
    while at < len(stream):
        begin = at
        while True:
            at = stream.index(b"\r\n", at) + 2
            if not (literal := _LITERAL.search(stream, begin, at)):
                break
            at += int(literal[1])
        yield stream[begin:at]


def readable(title: str, ran: str, conversations: list[Conversation]) -> str:
    """The conversations as text: each command, then its answers."""
    lines = [f"# {title}", f"# {ran}"]
    for number, conversation in enumerate(conversations, 1):
        lines.append(f"# -- connection {number}")
        answers = units(bytes(conversation.s2c))
        _until_final(lines, answers, rb"\* OK\b")
        for command in units(bytes(conversation.c2s)):
            _say(lines, "C", command)
            if not command.startswith(b"EXIT"):
                _until_final(lines, answers, _FINAL.pattern)
        for rest in answers:
            _say(lines, "S", rest)
    return "\n".join(lines) + "\n"


def _until_final(lines: list[str], answers: Iterator[bytes], final: bytes) -> None:
    for answer in answers:
        _say(lines, "S", answer)
        if re.match(final, answer):
            return


def _say(lines: list[str], who: str, unit: bytes) -> None:
    at = 0
    begun = True
    while at < len(unit):
        end = unit.index(b"\r\n", at) + 2
        text = unit[at:end].removesuffix(b"\r\n").decode(errors="backslashreplace")
        if text or begun:
            lines.append(f"{who}: {text}" if begun else f"   {text}")
        begun = False
        literal = _LITERAL.search(unit, at, end)
        at = end
        if literal:
            octets = unit[at : at + int(literal[1])]
            lines.append(
                f'   <{len(octets)} octets> "{octets.decode("latin-1").encode("unicode_escape").decode()}"'
            )
            at += len(octets)


class Recorder:
    """A real master and a real replica, and where their conversations go."""

    def __init__(self, master: Cyrus, replica: Cyrus, directory: Path) -> None:
        self.master, self.replica, self.directory = master, replica, directory

    def record(self, name: str, title: str, ran: str, run: Callable[[tuple[str, int]], Finished]) -> None:
        with Proxy(self.replica.csync, hide=("COMPRESS",)) as proxy:
            run(proxy.address).check()
            for conversation in proxy.conversations:
                until(conversation.ended.is_set, "the connection has ended")
            said = list(proxy.conversations)
        (self.directory / f"{name}.c2s.bin").write_bytes(b"".join(bytes(one.c2s) for one in said))
        (self.directory / f"{name}.s2c.bin").write_bytes(b"".join(bytes(one.s2c) for one in said))
        text = readable(f"{title} ({self.master.release.version})", ran, said)
        (self.directory / f"{name}.txt").write_text(text, encoding="utf-8")

    def users(self, name: str, title: str, *users: str) -> None:
        ran = f"sync_client -u {' '.join(users)}"
        self.record(name, title, ran, lambda to: self.master.sync_client("-u", *users, to=to))

    def log(self, name: str, title: str) -> None:
        self.record(name, title, "sync_client, the sync log once", self.master.follow)


def record(recorder: Recorder) -> None:
    """All conversations, in the order in which they have to be replayed."""
    master = recorder.master
    old = master.release.number < (3, 10)
    notes = "X-ANNOTATION-STORAGE" if old else "ANNOTATION-STORAGE"
    master.create_user("alice", "bob")
    with master.imap("alice") as imap, master.imap() as admin, master.sieve("alice") as sieve:
        for folder in ("lists", "lists/cyrus", "between/deep", "with space"):
            imap.ok("CREATE", quote(f"INBOX/{folder}"))
        imap.append("INBOX", message("one"), message("two"), flags="\\Seen $Forwarded Work")
        imap.append("INBOX/lists", message("list"), flags="\\Flagged")
        imap.ok("SETACL", "INBOX/lists", "bob", "lrswi")
        imap.ok("SUBSCRIBE", "INBOX/lists")
        imap.set_metadata("INBOX/lists", "/shared/comment", b"shared words")
        imap.set_metadata("INBOX/lists", "/private/comment", "für mich".encode())
        imap.select("INBOX")
        imap.annotate("1", "/comment", "value.priv", b"my note")
        admin.ok("SETQUOTA", "user/alice", f"(STORAGE 1000 MESSAGE 50 {notes} 9)")
        sieve.put("main", SCRIPT)
        sieve.activate("main")
        recorder.users(
            "01-first-users",
            "A user with folders, an intermediate name, annotations, quota, a script",
            "alice",
            "bob",
        )
        recorder.users("02-nothing-changed", "The same again", "alice")
        imap.append("INBOX", message("three"))
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Flagged")
        imap.store("2", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "2")
        recorder.users("03-incremental", "One append, one expunge, one flag", "alice")
        imap.ok("UNSUBSCRIBE", "INBOX/lists")
        imap.set_metadata("INBOX/lists", "/shared/comment", None)
        admin.ok("SETQUOTA", "user/alice", "(STORAGE 2000)")
        sieve.put("other", b"keep;\r\n")
        sieve.activate("other")
        recorder.users(
            "04-meta-changes", "Unsubscribed, an annotation removed, another quota and script", "alice"
        )
        imap.ok("UNSELECT")
        master.sync_log.unlink(missing_ok=True)
        imap.ok("RENAME", "INBOX/lists", "INBOX/moved")
        imap.ok("DELETE", "INBOX/between/deep")
        imap.ok("CREATE", "INBOX/between/deep")
        imap.append("INBOX/between/deep", message("in its place"))
        recorder.log(
            "05-rename-and-delete", "A tree renamed, a folder deleted and made again, by the sync log"
        )
    with master.imap("bob") as imap:
        imap.select("user/alice/moved")
        imap.store("1", "+FLAGS", "\\Seen")
    recorder.log("06-seen-by-another", "Another user has seen a message, by the sync log")
    with master.imap() as admin:
        admin.ok("SETACL", "user/bob", "cyrus", "lrswipkxtecda")
        admin.ok("DELETE", "user/bob")
    recorder.log("07-user-deleted", "A user deleted, by the sync log")


def main() -> None:
    release = RELEASES[sys.argv[1]]
    directory = Path(sys.argv[2]) if len(sys.argv) > 2 else DATA / str(release)
    directory.mkdir(parents=True, exist_ok=True)
    options = {"maxliteral": "0"}
    with (
        chosen(release),
        Cyrus.running("master", options) as master,
        Cyrus.running("replica", {**options, "sync_log": "0"}) as replica,
    ):
        record(Recorder(master, replica, directory))


if __name__ == "__main__":
    main()
