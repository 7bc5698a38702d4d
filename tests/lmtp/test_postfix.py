"""A real Postfix in front: what it takes is in the store, what cannot be delivered comes back or waits."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.role import Role, RoleOf
from cyrus_sync.common.stores import open_store
from tests.absent import skip_without
from tests.deadlines import until
from tests.ports import free_port

from .kit import HEADER, configured
from .postfix import Postfix, postfix, why_unavailable
from .test_process import make_users, running

TEXT = b"one\r\n.two\r\n..three\r\n" + (b"x" * 900 + b"\r\n") * 200


@pytest.fixture
def real_postfix() -> None:
    """Skip where none can be had; in CI, fail."""
    skip_without("real Postfix", why_unavailable())


@pytest.fixture
def site(tmp_path: Path, real_postfix: None) -> Iterator[tuple[Path, Postfix]]:
    """A store with LMTP, and a Postfix that delivers into it all that is for example.org."""
    port = free_port()
    autocreate = ("autocreate_post: yes", "autocreate_quota: 0", "autocreate_users: new")
    conf = configured(tmp_path, f"lmtp_listen: 127.0.0.1:{port}", "lmtp_journal: journal", *autocreate)
    make_users(conf)
    lines = (
        "virtual_mailbox_domains = example.org",
        f"virtual_transport = lmtp:inet:127.0.0.1:{port}",
        "recipient_delimiter = +",
    )
    with running(conf, port), postfix(*lines) as mta:
        yield conf, mta


def mailbox(conf: Path, owner: Owner, name: str) -> list[bytes]:
    store = open_store(Config.load(conf), readonly=True)
    try:
        with store.read(owner) as reader:
            box = reader.mailbox(name)
            if box is None:
                return []
            bodies = [reader.body(one.guid) for batch in reader.records(box.uniqueid) for one in batch]
            return [body.data for body in bodies if body is not None and isinstance(body.data, bytes)]
    finally:
        store.close()


def test_what_a_postfix_takes_is_in_the_store_or_comes_back_or_waits(site: tuple[Path, Postfix]) -> None:
    conf, mta = site
    users = [Owner("user", f"user{number}") for number in range(3)]

    def messages(number: int) -> list[bytes]:
        return mailbox(conf, users[number], f"user.user{number}")

    with smtplib.SMTP("127.0.0.1", mta.port) as smtp:
        recipients = ["user1@example.org", "user2+Folder@example.org", "nobody@example.org"]
        smtp.sendmail("user0@example.org", recipients, HEADER + TEXT)
    until(lambda: messages(0) and messages(1) and messages(2) and not mta.waiting, "all is delivered")
    for number in (1, 2):
        (message,) = messages(number)
        assert message.startswith(b"Return-Path: <user0@example.org>\r\n")
        assert message.endswith(b"\r\n\r\n" + TEXT)
    (bounce,) = messages(0)
    assert bounce.startswith(b"Return-Path: <>\r\n")
    assert b"User unknown" in bounce
    journal = mailbox(conf, Owner("shared", "journal"), "journal")
    assert len(journal) == 2
    assert b"<user2+Folder@example.org>" in journal[0].partition(b"Return-Path:")[0]

    with smtplib.SMTP("127.0.0.1", mta.port) as smtp:
        words = ["SMTPUTF8", "BODY=8BITMIME"]
        smtp.sendmail(
            "jö@example.org", ["new+Entwürfe@example.org"], "Subject: Grüße\r\n".encode() + HEADER, words
        )
    new = Owner("user", "new")
    until(lambda: mailbox(conf, new, "user.new") and not mta.waiting, "letters beyond ASCII are delivered")
    (message,) = mailbox(conf, new, "user.new")
    assert message.startswith("Return-Path: <jö@example.org>\r\n".encode())
    assert "\r\nSubject: Grüße\r\n".encode() in message

    role = RoleOf(conf.parent / "conf", replicaonly=False, conf="")
    role.become(Role.DRAINING, "a test", 0)
    with smtplib.SMTP("127.0.0.1", mta.port) as smtp:
        smtp.sendmail("user0@example.org", ["user1@example.org"], HEADER + b"later\r\n")
    until(lambda: "451 4.3.2" in mta.log, "it is told to wait")
    assert len(messages(1)) == 1
    role.become(Role.MASTER, "a test", 0)
    until(lambda: len(messages(1)) == 2 and not mta.waiting, "it is delivered then")
