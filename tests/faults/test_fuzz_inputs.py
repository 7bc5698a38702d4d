"""Spoiled input of every kind that comes from outside, or from a disk: packets, orders, mail, configurations,
databases, and how a network cuts a conversation.

What must hold: the command ends with a status that its manual page knows (never 70, an internal error), an
object that cannot be read raises its own kind of error, and what comes afterwards goes on.

``CYRUS_SYNC_FUZZ_SECONDS`` says how long each kind is tried, ``CYRUS_SYNC_FUZZ_SEED`` from where (a number,
default 1). Three seconds are the default, so that a change to what is fuzzed is noticed at once; a search for
what nobody has seen yet is a minute for each kind, with a seed that nobody has tried::

    CYRUS_SYNC_FUZZ_SECONDS=60 CYRUS_SYNC_FUZZ_SEED=$RANDOM .venv/bin/python -m pytest tests/faults -k fuzz

A failure names the case and shows it. The case of a number is the same for each seed; where cases are drawn
from a `corpus.Pool` it builds on those before it.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.options import OPTIONS
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.protocol.connection import ClientConnection, ServerConnection
from cyrus_sync.common.protocol.events import Event
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.multisite.importing import drop_set_aside
from cyrus_sync.multisite.packet import PacketDamaged, PacketReader
from cyrus_sync.shipping.conf import parse_conf
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.order import Order, Passage
from tests.common.protocol.kit import events, merged, server
from tests.faults import corpus
from tests.multisite.commands.kit import Server, family
from tests.multisite.mail import BOB, append, create, header_of, keys_of, message
from tests.multisite.packet.kit import BOSTON, forge, put_together, taken_apart
from tests.multisite.world import Site, exchange_until_quiet, family_of

SECONDS = float(os.environ.get("CYRUS_SYNC_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("CYRUS_SYNC_FUZZ_SEED", "1"))
INTERNAL_ERROR = 70

pytestmark = [pytest.mark.fault, pytest.mark.timeout(SECONDS * 3 + 120)]


def cases(kind: str, least: int = 3) -> Iterator[tuple[str, random.Random]]:
    """Names of cases with their chance, until the time is up."""
    end, number = time.monotonic() + SECONDS, 0
    while number < least or time.monotonic() < end:
        name = f"{kind}/{SEED}/{number}"
        yield name, random.Random(name)
        number += 1


def spoiled_file(path: Path, chance: random.Random) -> None:
    path.write_bytes(corpus.spoil(chance, path.read_bytes()))


# -- the wire


class WatchedServer(ServerConnection):
    """Notes the way that its machine goes."""

    def __init__(self) -> None:
        super().__init__()
        self.authenticated = True
        self.way: list[object] = []

    def _move(self, move: Any) -> None:
        self.way.append(move)
        super()._move(move)


def _framed(message: bytes) -> bytes:
    frame = zstandard.ZstdCompressor(level=1).compress(message)
    guid = hashlib.sha1(message).hexdigest().encode()
    return b"%d %%{default %s %d}\r\n%s" % (len(message), guid, len(frame), frame)


def _wires() -> list[bytes]:
    """Up to three commands in a row, of all that are known."""
    frames = [b"APPLY XFRAME (%s)" % b" ".join(_framed(message(n)) for n in range(1, 4))]
    own = [*corpus.conversations().values(), corpus.RARE, frames]
    return [b"\r\n".join(some[max(0, at - 2) : at + 1]) for some in own for at in range(len(some))]


def _cut(chance: random.Random, wire: bytes) -> list[bytes]:
    count = min(len(wire), chance.choice((1, 2, 5, 30, 200)))
    cuts = sorted(chance.randrange(len(wire) + 1) for _ in range(count))
    return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


def _said(found: list[Event]) -> tuple[str, ...]:
    """What kinds of events there were, and errors in words."""
    return tuple(_NUMBER.sub("", str(getattr(event, "reply", type(event).__name__))) for event in found)


_NUMBER = re.compile(r"[0-9]+")


def test_a_network_may_cut_a_spoiled_conversation_anywhere() -> None:
    pool = corpus.Pool(_wires())
    for name, chance in cases("wire", 50):
        spoiled = pool.spoiled(chance)
        wire = spoiled + b"\r\nEXIT\r\n"
        connection = WatchedServer()
        whole = merged(events(connection, [wire]))
        assert merged(events(server(), _cut(chance, wire))) == whole, (name, wire)
        pool.learn(spoiled, (tuple(connection.way), _said(whole[-3:])))


def test_a_network_may_cut_spoiled_answers_anywhere() -> None:
    pool = corpus.Pool(corpus.answers())
    for name, chance in cases("answers", 50):
        wire = pool.spoiled(chance)
        whole = merged(events(ClientConnection(), [wire]))
        assert merged(events(ClientConnection(), _cut(chance, wire))) == whole, (name, wire)
        pool.learn(wire, (len(whole), _said(whole[-3:])))


# -- packets


def test_operations_that_a_member_has_signed_and_nobody_would_write(tmp_path: Path) -> None:
    boston, sanfran = family_of(tmp_path, "boston", "sanfran")
    create(boston, "user.bob", "user.bob.work")
    append(boston, "user.bob", message(1), message(2))
    exchange_until_quiet([boston, sanfran], tmp_path)
    with boston.member() as member:
        real = list(member.log.operations.lacking({}))
        owners = sorted(
            {entry.owner for entry in real} | {SERVER, Owner("user", "eve"), Owner("shared", "x")}
        )
    with sanfran.member() as member:
        family = member.family
    for name, chance in cases("packet"):
        with boston.member() as member:
            for _ in range(8):
                entry = chance.choice(real)
                attributes = {key: value for key, value in entry.attributes.items() if key != "signature"}
                for key in list(attributes):
                    if chance.random() < 0.4:
                        attributes[key] = _spoiled_text(chance, attributes[key])
                if chance.random() < 0.3:
                    attributes.pop(chance.choice([*attributes, ""]), None)
                line = entry.line.removesuffix(b"\r\n")
                if chance.random() < 0.7:
                    line = corpus.spoil(chance, line).replace(b"\r\n", b" ")
                owner = entry.owner if chance.random() < 0.8 else chance.choice(owners)
                member.log.operations.append(owner, line + b"\r\n", time=1, attributes=attributes)
        packets = boston.export_to(sanfran, tmp_path / "travel")
        result = sanfran.import_from(packets)
        assert all(isinstance(error, CyrusSyncError) for error in result.refused.values()), name
        for path in result.refused:
            path.unlink(missing_ok=True)
        with sanfran.member() as member:
            for aside in list(member.log.operations.set_aside()):
                drop_set_aside(member, aside, sanfran.heard.append)
            member.set_family(family)  # a member may rename and remove others
        if _has_bob(sanfran):
            append(sanfran, "user.bob", message(name))
        sanfran.export_to(boston, tmp_path / "back")


def test_packets_that_a_member_has_signed_and_no_writer_would_write(tmp_path: Path) -> None:
    """Header and sections are spoiled, hashes and signature are right: nothing stands before the parsers."""
    boston, sanfran = family_of(tmp_path, "boston", "sanfran")
    create(boston, "user.bob", "user.bob.work")
    append(boston, "user.bob", message(1))
    exchange_until_quiet([boston, sanfran], tmp_path)
    append(boston, "user.bob", message(2), message(3, 3000))
    append(boston, "user.bob.work", message(4))
    (whole,) = boston.export_to(sanfran, tmp_path / "travel")
    front, stream = taken_apart(whole)
    sender, keys, bobs = header_of(whole).sender, keys_of(boston), set(boston.guids_of(BOB))
    after, before = boston.dump(), tmp_path / "before"
    shutil.copytree(sanfran.directory, before)
    for name, chance in cases("signed packet", 8):
        shutil.rmtree(sanfran.directory)
        shutil.copytree(before, sanfran.directory)
        spoiled = tmp_path / "spoiled"
        put_together(spoiled, *_spoiled_packet(chance, front, stream), sender, keys)
        result = sanfran.import_from([spoiled])
        assert all(isinstance(error, CyrusSyncError) for error in result.refused.values()), name
        assert mailstore.main(["-C", str(sanfran.directory / "imapd.conf"), "verify"]) == 0, name
        assert sanfran.guids_of(BOB) <= bobs, f"{name}: mail that nobody has sent"
        again = tmp_path / "again"
        shutil.copy(whole, again)
        sanfran.import_from([again])
        if result.refused:
            assert sanfran.dump() == after, f"{name}: a packet that was refused has left something"
        append(sanfran, "user.bob", message(name))
        sanfran.export_to(boston, tmp_path / "back")


def _spoiled_packet(chance: random.Random, front: bytes, stream: bytes) -> tuple[bytes, bytes]:
    """Front and stream of a packet, one of them spoiled: any octets, or one item with right counts."""
    way = chance.random()
    if way < 0.4:
        first, _, rest = front.partition(b"\n")
        lines, dots, end = rest.partition(b"#..")
        return first + b"\n" + corpus.spoil(chance, lines) + dots + end, stream
    if way < 0.6:
        return front, corpus.spoil(chance, stream)
    items = _sections(stream)
    number = chance.randrange(len(items))
    head, content = items[number]
    if chance.random() < 0.3:
        head = corpus.spoil(chance, head)
    else:
        content = corpus.spoil(chance, content)
    words = head.rstrip(b"\r\n").rsplit(b" ", 1)[0]
    items[number] = b"%s %d\r\n" % (words, len(content)), content
    return front, b"".join(head + content for head, content in items)


def _sections(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Sections and operations: their first lines, which end in a number of octets, and so many octets."""
    found, position = [], 0
    while position < len(stream):
        start = stream.index(b"\r\n", position) + 2
        end = start + int(stream[position:start].split()[-1])
        found.append((stream[position:start], stream[start:end]))
        position = end
    return found


def _has_bob(site: Site) -> bool:
    with site.store() as store, store.read(BOB) as reader:
        return reader.mailbox("user.bob") is not None


def _spoiled_text(chance: random.Random, text: str) -> str:
    return corpus.spoil(chance, text.encode()).decode("utf-8", "replace")


UPLOAD = b"APPLY MESSAGE (%%{default %s 5}\r\nhello)\r\n" % hashlib.sha1(b"hello").hexdigest().encode()
SUBSCRIPTION = b"APPLY SUB %(USERID alice MBOXNAME user.alice)\r\n"
STREAM = b"MESSAGES 1 %d\r\n%sOPERATION origin=%s id=1 time=2 owner=alice %d\r\n%s" % (
    len(UPLOAD),
    UPLOAD,
    BOSTON.encode(),
    len(SUBSCRIPTION),
    SUBSCRIPTION,
)


def test_a_packet_whose_hashes_are_right_holds_anything(tmp_path: Path) -> None:
    pool = corpus.Pool([STREAM, STREAM * 3])
    for name, chance in cases("packet stream", 50):
        stream = pool.spoiled(chance)
        cut = chance.randrange(len(stream) + 1)
        path = forge(tmp_path / "packet", [stream[:cut], stream[cut:]])
        found = []
        try:
            found += [type(item).__name__ for item in _items(path)]
        except PacketDamaged as error:
            assert str(path) in str(error.address), (name, stream)
            found.append(_NUMBER.sub("", error.message))
        pool.learn(stream, tuple(found))


def _items(path: Path) -> Iterator[object]:
    with PacketReader(path) as packet:
        yield from packet.items(path.parent)


# -- orders and configurations


def test_orders_that_are_spoiled_are_bad_orders() -> None:
    order = Order(
        data_path="/bay/outgoing/packet one",
        origin="boston.example.org",
        destinations=("tokyo.example.org", "oslo"),
        created=1_700_000_000,
        expires=1_800_000_000,
        identifier="one",
        size=123,
        digest="blake3:" + "ab" * 32,
        notify=("admin@example.org",),
        comments=('two "words"\n', "ž"),
        route=(Passage("hub", 1_700_000_001),),
    )
    text = order.text()
    assert Order.parse(text) == order
    pool = corpus.Pool([text])
    for name, chance in cases("order", 50):
        spoiled = pool.spoiled(chance)
        try:
            found = Order.parse(spoiled)
        except ShippingError as error:
            pool.learn(spoiled, _NUMBER.sub("", str(error)))
            continue
        assert Order.parse(found.text()) == found, (name, spoiled)


CONF = """\
MAX_DATA_SIZE 100m
STORAGE_BAY daily /srv/bay
ROUTE hub.example.org tokyo.example.org
EXPIRATION -default 3d
NOTIFICATION-PROGRAM /usr/bin/mailx
ADMINISTRATOR admin@example.org
MIN-DATAMOVER-PORT 5000
"""


def test_a_spoiled_shipping_conf_is_a_bad_configuration() -> None:
    pool = corpus.Pool([CONF.encode()])
    for _, chance in cases("shipping.conf", 50):
        spoiled = pool.spoiled(chance)
        try:
            parse_conf(spoiled.decode("utf-8", "surrogateescape"), Path("shipping.conf"))
        except CyrusSyncError as error:
            pool.learn(spoiled, _NUMBER.sub("", str(error)))


def test_a_spoiled_imapd_conf_is_a_bad_configuration(tmp_path: Path) -> None:
    path = tmp_path / "imapd.conf"
    options = [f"{name}: {option.default}" for name, option in OPTIONS.items()]
    for name, chance in cases("imapd.conf", 20):
        lines = [f"configdirectory: {tmp_path}/c", f"partition-default: {tmp_path}/m"]
        lines += chance.sample(options, 12)
        path.write_bytes(corpus.spoil(chance, "\n".join(lines).encode() + b"\n"))
        assert mailstore.main(["-C", str(path), "ls"]) != INTERNAL_ERROR, name
        try:
            Config.load(path)
        except CyrusSyncError:
            continue


# -- mail


MBOX = (
    b"From a@example.org Thu Nov 23 10:00:00 2023\nFrom: a@example.org\nStatus: RO\nX-Keywords: Work\n"
    b"Content-Length: 6\n\nhello\n\nFrom b@example.org Thu Nov 23 10:00:00 2023\nX-UID: 7\n"
    b"X-Status: AF\nSubject: =?utf-8?q?=C4=8Daj?=\n\n>From here\n\n"
)
EMLX = (
    b"41\nFrom: a@example.org\nSubject: one\n\nhello\nyou\n"
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
    b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0"><dict><key>flags</key>'
    b"<integer>8623489089</integer></dict></plist>\n"
)


def _mail(root: Path) -> list[Path]:
    """A source of each kind; the files that may be spoiled."""
    (root / "tree/Mail.mbox/Messages").mkdir(parents=True)
    (root / "tree/mh").mkdir()
    for part in ("cur", "new", "tmp", ".Work/cur", ".Work/new", ".Work/tmp"):
        (root / "maildir" / part).mkdir(parents=True)
    files = {
        "mbox": MBOX,
        "tree/Mail.mbox/Messages/1.emlx": EMLX,
        "tree/one.eml": message("eml"),
        "tree/mh/1": message("mh"),
        "tree/mh/.mh_sequences": b"unseen: 1-2\nflagged: 1\n",
        "maildir/cur/1.M1.host,S=80:2,Sa": message("cur"),
        "maildir/.Work/cur/2.M2.host:2,F": message("work"),
        "maildir/dovecot-uidlist": b"3 V1700000000 N9 G0123456789abcdef01234567\n5 W80 :1.M1.host,S=80\n",
        "maildir/dovecot-keywords": b"0 Work\n1 $Junk\n",
        "maildir/subscriptions": b"V\t2\n\nWork\n",
        "maildir/.Work/courierimapuiddb": b"1 1700000000 12\n4 2.M2.host\n",
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    return [root / name for name in files]


def test_spoiled_mail_is_taken_or_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = Server("boston", tmp_path / "boston")
    for number, (name, chance) in enumerate(cases("mail", 5)):
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        files = _mail(source)
        for path in chance.sample(files, 3):
            spoiled_file(path, chance)
        for kind in ("mbox", "tree", "maildir"):
            status = site.mailstore("import", "--create", "--no-progress", f"u{number}", str(source / kind))
            said = capfd.readouterr().err.encode("ascii", "backslashreplace")
            assert status in (0, 1, 65, 66), (name, kind, status, said)
            assert status == 0 or said, (name, kind)
        assert site.mailstore("verify", f"u{number}") == 0, (name, capfd.readouterr())


# -- databases


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lived-in")
    boston, sanfran = family(root, "boston", "sanfran")
    boston.create("user/bob", "user/bob/work")
    for number in range(4):
        boston.deliver("bob", f"number {number}", "work" if number % 2 else "")
    assert boston.syncreplica("-export", "-out", root / "packet", sanfran.name) == 0
    return root


Command = Callable[[Server], int]
COMMANDS: dict[str, Command] = {
    "ls": lambda site: site.mailstore("ls"),
    "ls bob": lambda site: site.mailstore("ls", "bob"),
    "dump": lambda site: site.mailstore("dump"),
    "verify": lambda site: site.mailstore("verify"),
    "stats": lambda site: site.mailstore("stats"),
    "deliver": lambda site: site.mailstore("deliver", "bob", stdin=message("more")),
    "expire": lambda site: site.mailstore("expire"),
    "repair": lambda site: site.mailstore("repair"),
    "reconstruct": lambda site: site.mailstore("reconstruct", "bob"),
    "lsreplica": lambda site: site.multitool("lsreplica"),
    "lsmaster": lambda site: site.multitool("lsmaster", "bob"),
    "export": lambda site: site.syncreplica("-export", "-out", site.directory / "out", "sanfran"),
    "verify again": lambda site: site.mailstore("verify"),
}


def test_every_command_ends_on_damaged_databases(lived_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = lived_in.with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(lived_in, kept)
    boston = Server("boston", lived_in / "boston")
    for name, chance in cases("database"):
        shutil.rmtree(lived_in)
        shutil.copytree(kept, lived_in)
        found = sorted(p for p in (lived_in / "boston").rglob("*") if p.suffix in (".sqlite", ".db"))
        assert len(found) >= 3
        for path in chance.sample(found, chance.choice((1, 1, 2))):
            _damage(path, chance)
        for what, command in COMMANDS.items():
            status = command(boston)
            said = capfd.readouterr().err
            assert status != INTERNAL_ERROR and "Traceback" not in said, (name, what, said[-3000:])
            assert status == 0 or said or what.startswith("verify"), (name, what, status)


def _damage(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 3, 20))):
        # Headers of pages say most of how a page is read.
        page = 4096 * chance.randrange(max(1, len(data) // 4096))
        at = page + (chance.randrange(120) if chance.random() < 0.5 else chance.randrange(4096))
        if at < len(data):
            data[at] = chance.randrange(256)
    if chance.random() < 0.15:
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)
