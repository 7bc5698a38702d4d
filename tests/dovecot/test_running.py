"""Each Dovecot that the tests have serves mail: what others build on."""

from __future__ import annotations

import hashlib
import socket

from tests.dovecot.conftest import running_or_skipped
from tests.dovecot.dovecot import ok, view
from tests.dovecot.running import RELEASES, Server, why_not_running

MESSAGE = b"From: a@example.org\r\nSubject: hello\r\n\r\nhi\r\n"


def test_a_dovecot_of_each_release_serves_mail(serving: Server) -> None:
    home = serving.add_user("alice")
    serving.add_user("bruno")
    with serving.imap("alice") as imap:
        for capability in ("CONDSTORE", "QRESYNC", "ACL", "QUOTA", "METADATA", "SPECIAL-USE", "LIST-STATUS"):
            assert capability in ok(imap.capability())[0].decode().split()
        ok(imap.append("INBOX", "(\\Seen Work)", '" 1-Mar-2020 10:00:00 +0000"', MESSAGE))
        ok(imap.create("Drafts"))
        (message,) = view(imap, "INBOX").messages
    assert (message.uid, message.flags) == (1, ("\\seen", "work"))
    assert (message.internaldate, message.guid) == (1583056800, hashlib.sha1(MESSAGE).hexdigest())
    assert (home / "Maildir" / "cur").is_dir()

    serving.deliver("bruno", MESSAGE)
    serving.deliver("bruno", MESSAGE, detail="Lists")
    with serving.imap("bruno", master=True) as imap:
        assert len(view(imap, "INBOX").messages) == len(view(imap, "Lists").messages) == 1
        ok(imap.setacl("Lists", "alice", "lr"))
    assert serving.doveadm("user", "*").out.split() == ["alice", "bruno"]
    assert "uid: 1" in serving.doveadm("fetch", "-u", "bruno", "uid", "mailbox", "Lists", "all").out
    with socket.create_connection(("127.0.0.1", serving.sieve_port), 10) as sieve:
        assert b"Pigeonhole" in sieve.recv(200)
    assert serving.version.startswith(serving.release)
    assert not serving.complaints()


def test_mail_is_in_the_layout_that_is_asked_for_and_survives_a_kill() -> None:
    release = next((one for one in RELEASES if not why_not_running(one)), RELEASES[-1])
    with running_or_skipped(release, layout="mdbox", escape=True) as server:
        server.add_user("alice")
        with server.imap("alice") as imap:
            ok(imap.create("a.b/c"))
            ok(imap.append("a.b/c", None, None, MESSAGE))
        server.kill()
        server.start()
        with server.imap("alice") as imap:
            assert len(view(imap, "a.b/c").messages) == 1
        assert list((server.maildir("alice") / "storage").glob("m.*"))
        assert server.maildir("alice").name == "mdbox"
