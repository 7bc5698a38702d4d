import hashlib
from collections import Counter
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.model import SYSTEM_FLAGS
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore.flags import is_keyword
from cyrus_sync.mailstore.sample import USERS, messages
from tests.mailstore.conftest import Site

MAIL = list(messages())


def test_the_same_seed_gives_the_same_mail_and_another_gives_other() -> None:
    digest = hashlib.sha1(b"".join(message.raw for message in MAIL)).digest()
    assert hashlib.sha1(b"".join(message.raw for message in messages(1))).digest() == digest
    assert hashlib.sha1(b"".join(message.raw for message in messages(2))).digest() != digest


def test_it_is_lifelike() -> None:
    assert 300 < len(MAIL) < 1000
    assert {message.userid for message in MAIL} == set(USERS)
    sizes = sorted(len(message.raw) for message in MAIL)
    assert sizes[0] == 1 and sizes[-1] > 500_000
    parsed = [message_from_bytes(message.raw, policy=policy.default) for message in MAIL]
    charsets = Counter(part.get_content_charset() for one in parsed for part in one.walk())
    assert {"utf-8", "iso-8859-1", "iso-8859-2", "iso-2022-jp", "koi8-r", "gb2312", "us-ascii"} <= set(
        charsets
    )
    kinds = Counter(part.get_content_type() for one in parsed for part in one.walk())
    assert {"text/html", "image/png", "application/pdf", "message/rfc822", "text/calendar"} <= set(kinds)
    assert sum("References" in one for one in parsed) > 50
    assert any(max(message.raw) > 0x7F for message in MAIL)
    assert len({message.raw for message in MAIL}) < len(MAIL), "some messages stand in several mailboxes"


def test_flags_are_good_ones() -> None:
    for message in MAIL:
        for flag in message.flags.split():
            assert flag in SYSTEM_FLAGS or is_keyword(flag)


def test_no_message_has_a_bare_line_feed_but_the_one_that_is_about_it() -> None:
    odd = [m for m in MAIL if b"\n" in m.raw.replace(b"\r\n", b"")]
    assert [m.raw[:17] for m in odd if m.folder == "Odd"] == [m.raw[:17] for m in odd]
    assert b"Subject: bare line feeds" in odd[0].raw


@pytest.mark.covers("mailstore: commands and options", "sample")
def test_a_filled_store_is_sound_and_has_everything(site: Site) -> None:
    result = site.ok("sample")
    assert result.lines[0].endswith("of alice, bruno, chiara, daisuke, zoe.novak")
    assert site.ok("verify").lines == ["6 owners checked: nothing wrong"]
    store = open_store(Config.load(site.conf, "mailstore"), readonly=True)
    with store.read(Owner("user", "alice")) as reader:
        meta = reader.meta(with_sieve=True)
        assert len(meta.subscriptions) > 5 and len(meta.seen) == 1 and len(meta.sieve) == 3
        assert reader.quotas()[0].limits == {"STORAGE": 500_000, "MESSAGE": 10_000}
        inbox = reader.mailbox("user.alice")
        assert inbox is not None and inbox.annotations
        records = [record for batch in reader.records(inbox.uniqueid) for record in batch]
        assert sum(record.expunged for record in records) == 2
        assert records[0].annotations and "Follow-up" in records[0].flags
        assert len(records) >= 8
    store.close()
    kinds = {line[0] for line in site.log()}
    assert {"MAILBOX", "APPEND", "QUOTA", "SUB", "SEEN", "ANNOTATION"} <= kinds


@pytest.mark.covers("mailstore: commands and options", "sample --seed")
def test_another_seed_fills_other_mail(tmp_path: Path) -> None:
    subjects = []
    for number, seed in enumerate((["--seed", "2"], [], ["--seed", "1"])):
        (tmp_path / str(number)).mkdir()
        one = Site(tmp_path / str(number))
        one.ok("sample", *seed)
        guids = {record.guid for record in one.records("user.alice")}
        subjects.append(guids)
    assert subjects[0] != subjects[1] == subjects[2]


def test_it_does_not_mix_with_users_that_are_there(site: Site) -> None:
    site.ok("create", "user/bruno")
    assert site.run("sample").status == 65
    assert site.ok("ls", "-1").lines == ["bruno"]
