"""A file that was cut off goes on where it was, whoever was killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from blake3 import blake3

from cyrus_sync.shipping import arrival
from cyrus_sync.shipping.receive import WORTH_KEEPING
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, unfinished, wait_until

Pair = tuple[Host, Host]
DATA = os.urandom(3 * WORTH_KEEPING)


def cut_off(boston: Host, hub: Host, octets: int, **changes: object) -> None:
    """A sender begins, and is gone after so many octets."""
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, DATA, **changes))  # type: ignore[arg-type]
        assert talk.word() in ("GO", "FROM")
        talk.send(DATA[:octets])
    wait_until(lambda: not busy(hub))


def busy(hub: Host) -> bool:
    """Whether a child still has the part in hand."""
    return "broke off" not in hub.log()


def again(boston: Host, hub: Host, data: bytes = DATA, **changes: object) -> tuple[str, int]:
    """The same once more, up to its end: where it began, and what the receiver said to it."""
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, DATA, **changes))  # type: ignore[arg-type]
        words = talk.line().split()
        if words[0] == "NO":
            return "NO", 0
        start = int(words[2]) if words[0] == "FROM" else 0
        talk.send(data[start:])
        return talk.word(), start


@pytest.fixture
def order(pair: Pair) -> dict[str, object]:
    """The order is the same each time."""
    return {"order": header_for(pair[1], DATA).order}


def test_a_sender_that_was_killed_goes_on(pair: Pair, order: dict[str, object]) -> None:
    boston, hub = pair
    cut_off(boston, hub, 2 * WORTH_KEEPING, **order)
    said, start = again(boston, hub, **order)
    assert said == "DONE" and WORTH_KEEPING <= start <= 2 * WORTH_KEEPING
    assert hub.incoming() == {"packet": DATA} and unfinished(hub) == []
    assert f"goes on with packet from 127.0.0.9 at byte {start}" in hub.log()


@pytest.mark.usefixtures("started_children")
def test_a_receiver_that_was_killed_goes_on_and_the_sender_is_ours(pair: Pair) -> None:
    boston, hub = pair
    path = boston.packet("one", DATA, hub.name)
    digest = f"blake3:{blake3(DATA).hexdigest()}"
    carried = boston.order("one")
    with Conversation(boston, hub) as talk:
        talk.hello()
        header = header_for(hub, DATA, order=carried, digest=digest)
        talk.announce(header)
        assert talk.word() == "GO"
        talk.send(DATA[: 2 * WORTH_KEEPING])
        part = hub.bay / "incoming" / arrival.partial_name(header)
        wait_until(lambda: part.stat().st_size > WORTH_KEEPING)
        for child in Path(f"/proc/{hub.pid}/task/{hub.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        assert talk.line() == ""
    assert boston.shipping_server(path) == 0
    assert hub.incoming() == {"one": DATA} and unfinished(hub) == []
    assert "goes on with one from 127.0.0.1 at byte " in hub.log()


def test_a_part_that_was_damaged_since_is_not_taken_and_the_next_try_begins_anew(
    pair: Pair, order: dict[str, object]
) -> None:
    boston, hub = pair
    cut_off(boston, hub, 2 * WORTH_KEEPING, **order)
    (name,) = unfinished(hub)
    with (hub.bay / "incoming" / name).open("r+b") as part:
        part.write(b"damaged" * 2)
    assert again(boston, hub, **order)[0] == "NO"
    assert unfinished(hub) == [] and hub.incoming() == {}
    assert again(boston, hub, **order) == ("DONE", 0)
    assert hub.incoming() == {"packet": DATA}


def test_a_sender_that_cannot_begin_further_on_begins_anew(pair: Pair, order: dict[str, object]) -> None:
    boston, hub = pair
    cut_off(boston, hub, 2 * WORTH_KEEPING, **order)
    assert again(boston, hub, resumes=False, **order) == ("DONE", 0)
    assert hub.incoming() == {"packet": DATA}


@pytest.mark.parametrize("planted", ["link", "pipe", "directory", "of somebody else"])
def test_what_somebody_puts_in_the_place_of_a_part_is_not_gone_on_with(
    pair: Pair, order: dict[str, object], planted: str
) -> None:
    boston, hub = pair
    header = header_for(hub, DATA, **order)  # type: ignore[arg-type]
    path = hub.bay / "incoming" / arrival.partial_name(header)
    secret = hub.root / "secret"
    secret.write_bytes(b"x" * 2 * WORTH_KEEPING)
    if planted == "link":
        path.symlink_to(secret)
    elif planted == "pipe":
        os.mkfifo(path)
    elif planted == "directory":
        path.mkdir()
    else:
        os.link(secret, path)
    said, start = again(boston, hub, **order)
    if planted == "directory":
        assert said == "NO"  # nothing is done to it; whoever may write there can keep anything from coming
        path.rmdir()
        said, start = again(boston, hub, **order)
    assert (said, start) == ("DONE", 0)
    assert hub.incoming() == {"packet": DATA} and secret.read_bytes() == b"x" * 2 * WORTH_KEEPING


def test_a_part_that_nobody_comes_back_for_is_removed_and_others_at_once(
    pair: Pair, order: dict[str, object]
) -> None:
    boston, hub = pair
    cut_off(boston, hub, 2 * WORTH_KEEPING, **order)
    (part,) = (hub.bay / "incoming").glob(".ms_tmp_*")
    other = part.with_name(".ms_tmp_0123456789abcdef01234567")
    other.write_bytes(b"what a killed process left")
    os.utime(other, (time.time() - 120,) * 2)
    arrival.recover(hub.site())
    assert unfinished(hub) == [part.name]
    os.utime(part, (time.time() - 7 * 3600,) * 2)
    arrival.recover(hub.site())
    assert unfinished(hub) == []
