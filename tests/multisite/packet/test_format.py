"""docs/packet-format.md: what it says of packets is so, and its recipes work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cyrus_sync.multisite.packet import CREATION, items, prologue
from cyrus_sync.multisite.packet import header as limits
from cyrus_sync.multisite.packet.frames import FRAME, LARGEST_CONTENT
from cyrus_sync.multisite.packet.header import Question
from cyrus_sync.multisite.packet.restores import Restore
from tests.multisite.packet.kit import BOSTON, BOSTON_KEYS, body, header, mail, operation, write

DOCS = (Path(__file__).parents[3] / "docs" / "packet-format.md").read_text(encoding="utf-8")
RECIPES = [part.split("```")[0] for part in DOCS.split("```sh recipe\n")[1:]]
WANTED = b"From: a@example.org\r\n\r\nThis one.\r\n"
needs_a_shell = pytest.mark.skipif(
    not (shutil.which("zstd") and shutil.which("sha256sum")), reason="needs zstd and sha256sum"
)


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    """Several frames, a large message, one that lies across frames; signed."""
    path = tmp_path / "a packet"
    large = b"large \x00\n\xff" * 300_000
    filler = [b"%07d\n" % n * 30_000 for n in range(8)]
    return write(
        path, mail(*filler, WANTED, large, b"x"), operation(1), mail(b"y"), operation(2),
        head=header(comment="Two lines:\n---"), signing=BOSTON_KEYS,
    )  # fmt: skip


def run(recipe: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-eu", "-c", recipe], cwd=directory, capture_output=True, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


@needs_a_shell
def test_the_recipes_check_a_packet_and_get_messages_out(tmp_path: Path, packet: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = run(RECIPES[0], work, PACKET=str(packet))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [path.name for path in work.iterdir()] == ["stream"]
    for wanted in (WANTED, b"large \x00\n\xff" * 300_000, b"y"):
        done = run(RECIPES[1], work, GUID=body(wanted).guid.hex())
        assert (done.returncode, done.stderr) == (0, b"")
        assert (work / "message").read_bytes() == wanted
    assert (work / "stream").read_bytes().count(b"\r\nOPERATION ") == 2


@needs_a_shell
@pytest.mark.parametrize("place", [b"[1, 70]", b"\nframe 2 ", b"\x28\xb5\x2f\xfd"])
def test_the_recipe_notices_damage(tmp_path: Path, packet: Path, place: bytes) -> None:
    data = bytearray(packet.read_bytes())
    data[data.rindex(place) + len(place) - 2] ^= 1
    packet.write_bytes(data)
    assert run(RECIPES[0], tmp_path, PACKET=str(packet)).returncode != 0


def test_the_beginning_can_be_read_by_a_person(packet: Path) -> None:
    lines = packet.read_bytes().split(b"\n---\n")[0].decode().split("\n")
    assert lines[:4] == [
        "cyrus-sync packet 1",
        "kind: update",
        f'family: "{"fa" * 16}"',
        'family_name: "mail"',
    ]
    assert 'sender_name: "boston_hub"' in lines
    assert "created: 1750000000  # 2025-06-15 15:06:40 UTC" in lines
    assert re.fullmatch(r"#\.+", lines[-1])


def test_every_key_of_the_header_is_explained_in_its_order() -> None:
    table = DOCS.split("| key | what it is |")[1].split("\n\n")[0]
    explained = [key for row in table.split("\n")[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])]
    link = "0" * 12
    links = {"heads": {BOSTON: link}, "trail": {"1": link}, "taken": {link: 1}, "forked": {BOSTON: 1}}
    numbers = {"trimmed": {BOSTON: 1}, "heard": {BOSTON: (0, 1, 1, 1)}, "asking": {BOSTON: Question(1, ())}}
    restores = {BOSTON: Restore(1, {}, {}, {}, {})}
    full = header(
        kind=CREATION,
        restores=restores,
        sealed={"a": bytes(80)},
        keys="k",
        invitation="i",
        given_up=(bytes(20),),
        snapshot=True,
        **links,
        **numbers,
    )
    assert explained == re.findall(r"^(\w+):", full.text(), re.MULTILINE)


def test_the_limits_are_those_of_the_document() -> None:
    for text, limit in [
        ("has 16 MiB at most", prologue.LARGEST == 16 << 20),
        ("at most 1,000 targets", limits.MOST_TARGETS == 1000),
        ("10,000 replicas", limits.MOST_REPLICAS == 10_000),
        ("50,000\nwanted", limits.MOST_WANTED == 50_000),
        ("65,536 characters of comment", limits.LONGEST_COMMENT == 65_536),
        ("at most 255 characters", limits.LONGEST_NAME == 255),
        ("where 1 MiB is full", FRAME == 1 << 20),
        ("more than 4 MiB of content", LARGEST_CONTENT == 4 << 20),
        ("more than 4 MiB holds one message", items.LARGEST_SECTION == 4 << 20),
        ("64 MiB", items.LONGEST_LINE == 64 << 20),
        ("words has 64 KiB", items.LONGEST_HEAD == 64 << 10),
    ]:
        assert text in DOCS, text
        assert limit, text
