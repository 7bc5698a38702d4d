"""A bay that others may write, and root at work in it: nobody's files are read, given away, moved or deleted.

What somebody swaps between two steps is swapped by a hook between them, not by luck.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.directory import Directory, Tampered, Unfinished
from cyrus_sync.shipping import arrival, completing, sender
from cyrus_sync.shipping.bays import INCOMING, OUTGOING, Bay
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.placing import measured, new_order
from tests.shipping.kit import Host, age, contents

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it is about what root can be made to do")

MALLORY, ALICE = 23456, 12345
Pair = tuple[Host, Host]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of root that nobody else may see."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    return path


def untouched(secret: Path) -> bool:
    about = secret.lstat()
    return (
        (about.st_uid, stat.S_IMODE(about.st_mode)) == (0, 0o600)
        and stat.S_ISREG(about.st_mode)
        and secret.read_bytes() == b"secret"
    )


def open_bay(host: Host) -> Path:
    """The bay of the host, in which everybody may write; it belongs to Mallory."""
    host.site().bays("-default")[0].ready()
    for path in (host.bay, host.bay / "incoming", host.bay / "outgoing"):
        os.chown(path, MALLORY, MALLORY)
        path.chmod(0o777)
    return host.bay / "outgoing"


def after(
    monkeypatch: pytest.MonkeyPatch, place: object, step: str, deed: Callable[..., object], times: int = 1
) -> None:
    """`deed` is done right after the step, with what the step was called with."""
    real = getattr(place, step)
    left = [times]

    def step_and_deed(*arguments: object) -> object:
        found = real(*arguments)
        if left[0]:
            left[0] -= 1
            deed(*arguments)
        return found

    monkeypatch.setattr(place, step, step_and_deed)


def swap(path: Path, secret: Path, link: str) -> None:
    path.unlink()
    if link == "hard":
        os.link(secret, path)
    else:
        path.symlink_to(secret)


def order_of(uid: int, directory: Path, name: str, **changes: object) -> Path:
    """An order that a user has put beside the file `name`."""
    path = directory / f"sh_o_{name}"
    order = Order(os.fspath(directory / name), "elsewhere", ("nowhere.example",), 0, 0)
    path.write_bytes(replace(order, **changes).text())  # type: ignore[arg-type]
    os.chown(path, uid, uid)
    return path


def everything_delivered() -> dict[str, object]:
    order = Order("x", "elsewhere", ("nowhere.example",), 0, 0)
    return {"deliveries": order.delivered(order.destinations, "nowhere.example", 1).deliveries}


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_an_order_whose_unfinished_file_is_swapped_gives_away_no_other(
    hosts: tuple[Host, ...], secret: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    boston = hosts[0]
    open_bay(boston)
    after(monkeypatch, Directory, "new_file", lambda d, *_: _swap_unfinished(d, secret, link), times=9)
    source = boston.root / "one"
    source.write_bytes(b"1")
    assert boston.mkorder("-data", source, "-ship", "-copy", "nowhere.example") != 0
    assert untouched(secret)


def _swap_unfinished(directory: Directory, secret: Path, link: str) -> None:
    for path in directory.path.glob(".ms_tmp_*"):
        swap(path, secret, link)


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_an_order_that_is_rewritten_gives_no_other_file_away(
    pair: Pair, secret: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    boston, hub = pair
    outgoing = open_bay(boston)
    boston.packet("one", b"1", hub.name, "127.0.0.77")
    hooked = os.fchmod

    def swap_first(descriptor: int, mode: int) -> None:
        _swap_unfinished(Directory(outgoing, 0), secret, link)
        hooked(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", swap_first)
    assert boston.shipping_server("-poll") == 1
    assert untouched(secret)


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_what_is_received_gives_no_other_file_away(
    hosts: tuple[Host, ...], secret: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    boston, hub, bangalore = hosts
    open_bay(hub)
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")

    def swap_all(*_: object) -> None:
        for part in (INCOMING, OUTGOING):
            for path in (hub.bay / part).glob(".ms_tmp_*"):
                swap(path, secret, link)

    for place, step in ((Bay, "adopt"), (completing, "unfinished_order"), (Unfinished, "link")):
        with monkeypatch.context() as patch:
            after(patch, place, step, swap_all)
            hub.start()
            boston.packet(f"by {step}".replace(" ", "-"), b"1", hub.name, bangalore.name)
            assert boston.shipping_server("-poll") == 1, "nobody is told that it has come"
            hub.stop()
        assert untouched(secret)
        for path in boston.bay.glob("outgoing/*"):
            path.unlink()


def test_a_directory_that_is_swapped_for_a_link_is_not_followed(
    hosts: tuple[Host, ...], tmp_path: Path, secret: Path
) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    order_of(0, elsewhere, "secret", **everything_delivered())
    os.link(secret, elsewhere / "secret")
    (elsewhere / ".ms_tmp_old").touch()
    os.utime(elsewhere / ".ms_tmp_old", (1, 1))
    before = sorted(path.name for path in elsewhere.iterdir())
    outgoing.rmdir()
    outgoing.symlink_to(elsewhere)
    os.lchown(outgoing, MALLORY, MALLORY)
    assert boston.shipping_server("-poll") == 1
    arrival.recover(boston.site())
    source = tmp_path / "one"
    source.write_bytes(b"1")
    assert boston.mkorder("-data", source, "-ship", "-copy", "nowhere.example") == 1
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert untouched(secret)


def test_a_directory_that_root_has_linked_elsewhere_is_the_bays_own(pair: Pair, tmp_path: Path) -> None:
    boston, hub = pair
    outgoing = open_bay(boston)
    outgoing.rmdir()
    (tmp_path / "disk").mkdir()
    outgoing.symlink_to(tmp_path / "disk")
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"} and contents(tmp_path / "disk") == {}


def test_a_bay_whose_new_directory_is_swapped_gives_nothing_away(
    hosts: tuple[Host, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bay = Bay(tmp_path / "bay")
    bay.path.mkdir(mode=0o777)
    os.chown(bay.path, MALLORY, MALLORY)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "file").touch()

    def put_a_link(name: str, *_: object, **__: object) -> None:
        (bay.path / name).symlink_to(private)
        os.lchown(bay.path / name, MALLORY, MALLORY)

    monkeypatch.setattr(os, "mkdir", put_a_link)
    with pytest.raises(Tampered, match="symbolic link of somebody else"):
        bay.ready()
    about = private.stat()
    assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (0, 0o700)


@pytest.mark.parametrize("end", ["delivered", "expired", "given up"])
@pytest.mark.parametrize("data", ["soft", "hard", "of another"])
def test_an_order_disposes_of_nothing_but_its_owners_files(
    hosts: tuple[Host, ...], secret: Path, end: str, data: str
) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    boston.site().return_bays("-default")[0].ready()
    path = outgoing / "x"
    if data == "soft":
        path.symlink_to(secret)
    elif data == "hard":
        os.link(secret, path)
    else:
        path.write_bytes(b"alice's")
        os.chown(path, ALICE, ALICE)
    changes: dict[str, object] = {
        "delivered": everything_delivered(),
        "expired": {"expires": 1, "origin": boston.name},
        "given up": {"expires": 1, "undelivered": ("nowhere.example",)},
    }[end]
    order = order_of(MALLORY, outgoing, "x", **changes)
    assert boston.shipping_server("-poll") == 1
    assert order.exists() and os.path.lexists(path)
    assert boston.came_home() == {}
    assert untouched(secret)


def test_an_order_of_root_that_others_may_write_speaks_for_no_other_owner(hosts: tuple[Host, ...]) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    (outgoing / "x").write_bytes(b"alice's")
    os.chown(outgoing / "x", ALICE, ALICE)
    order = order_of(0, outgoing, "x", **everything_delivered(), digest="blake3:" + "0" * 64)
    order.chmod(0o666)
    assert boston.shipping_server("-poll") == 1
    assert (outgoing / "x").exists()
    order.chmod(0o644)
    assert boston.shipping_server("-poll") == 0
    assert not (outgoing / "x").exists() and not order.exists()


def test_nobody_else_can_write_into_an_order_in_a_bay(hosts: tuple[Host, ...]) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    boston.packet("one", b"1", "nowhere.example")
    assert stat.S_IMODE((outgoing / "sh_o_one").stat().st_mode) == 0o644
    assert stat.S_IMODE((outgoing / "one").stat().st_mode) == 0o666


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_a_link_to_an_order_is_none(hosts: tuple[Host, ...], tmp_path: Path, link: str) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    (outgoing / "x").write_bytes(b"1")
    order = order_of(0, tmp_path, "x", data_path="x", **everything_delivered())
    if link == "hard":
        os.link(order, outgoing / "sh_o_x")
    else:
        (outgoing / "sh_o_x").symlink_to(order)
    assert boston.shipping_server("-poll") == 1
    assert (outgoing / "x").exists() and order.exists()


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_data_that_is_swapped_after_it_was_checked_is_neither_deleted_nor_copied(
    hosts: tuple[Host, ...], secret: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    for number, changes in enumerate((everything_delivered(), {"expires": 1, "origin": boston.name})):
        path = outgoing / f"x{number}"
        path.write_bytes(b"mallory's")
        os.chown(path, MALLORY, MALLORY)
        order = order_of(MALLORY, outgoing, path.name, **changes)
        with monkeypatch.context() as patch:
            after(patch, sender, "_check_owner", lambda *_, path=path: swap(path, secret, link))
            assert boston.shipping_server("-poll") == 1
        assert os.path.lexists(path) and untouched(secret)
        assert "secret" not in str(boston.came_home())
        order.unlink()


def test_a_return_to_another_file_system_copies_the_file_that_was_checked(
    hosts: tuple[Host, ...], secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    path = boston.packet("one", b"1", "nowhere.example")
    age(path, 10)

    def another_disk(*_: object) -> None:
        swap(outgoing / "one", secret, "soft")
        raise OSError(18, "another file system")

    monkeypatch.setattr(Directory, "move", another_disk)
    monkeypatch.setattr(
        Unfinished, "rename", lambda copy, new: copy.directory.rename_new(copy.name, new, copy.directory)
    )
    assert boston.shipping_server("-poll") == 1
    assert boston.came_home() == {"one": b"1"}
    assert untouched(secret) and (outgoing / "one").is_symlink()


def test_digest_and_size_are_those_of_no_link(hosts: tuple[Host, ...], secret: Path) -> None:
    boston = hosts[0]
    outgoing = open_bay(boston)
    (outgoing / "p").symlink_to(secret)
    order = new_order(boston.site(), outgoing / "p", ["nowhere.example"])
    with pytest.raises(OSError, match="symbolic links"):
        measured(order, outgoing / "p")


@pytest.mark.covers("Replication by packets: the acceptance list", "31")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_sends_data_and_orders_of_different_owners_where_only_they_can_have_put_them(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    outgoing = boston.bay / "outgoing"
    os.chown(outgoing / "one", 12345, -1)
    os.chown(order, 54321, -1)
    outgoing.chmod(0o1777)
    assert boston.shipping_server(order) == 1
    assert "one does not belong to the owner of the order" in boston.log()
    outgoing.chmod(0o770)
    os.link(outgoing / "one", boston.root / "elsewhere")
    assert boston.shipping_server(order) == 1
    (boston.root / "elsewhere").unlink()
    assert boston.shipping_server(order) == 0
    assert hub.incoming() == {"one": b"1"} and boston.outgoing() == []
