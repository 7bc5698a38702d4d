"""The power goes while the real programs work: what was acknowledged is there when the machine starts again.

Each test records what the programs do to the disk (`tests/faults/power`), and then has the power go right
after every acknowledgement, with all lost that was not synced, or with some of it lost; and in between.
``CYRUS_SYNC_POWER_CUTS`` says how often in between (default 12).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.stores.native.care.sweep import sweep
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.shipping.order import Order
from tests.deadlines import until
from tests.faults.power.machine import message, opened, run, running, subjects
from tests.faults.power.replay import Recording, cuts
from tests.faults.server import mailbox, upload
from tests.multisite.commands.kit import Server as Member
from tests.multisite.commands.kit import exchange
from tests.ports import free_port
from tests.shipping.kit import Host

BETWEEN = int(os.environ.get("CYRUS_SYNC_POWER_CUTS", "12"))

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed, for what records the disk"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The disk."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def conf(root: Path, name: str, **options: str) -> Path:
    """A configuration; none of its directories is there yet."""
    path = root / f"{name}.conf"
    settings = {
        "configdirectory": f"{root}/{name}/conf",
        "partition-default": f"{root}/{name}/mail/default",
        "servername": f"{name}.example",
        "unixhierarchysep": "yes",
        **options,
    }
    path.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    return path


def listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def logged(config: Path) -> set[str]:
    """Mailboxes and users that the action log names, once what was left over has been swept into it."""
    with_log = Config.load(config)
    store = opened(config)
    try:
        sweep(store)
    finally:
        store.close()
    log = SyncLog(log_path(with_log))
    data = b"".join(path.read_bytes() for path in (log.path, log.run_path) if path.exists())
    return {word for line in parse_lines(data) for word in line.args}


def check_store(config: Path) -> None:
    """Nothing that was begun has left damage behind."""
    assert mailstore.main(["-C", str(config), "verify"]) == 0


def test_mail_that_a_server_has_taken(root: Path, tmp_path: Path) -> None:
    sock = str(tmp_path / "s")
    replica = conf(root, "replica", sync_listen=sock, admins="cyrus")
    with (
        Recording(root, tmp_path) as recording,
        running("sync_server", replica, "-e", ready=lambda: listens(sock)),
        socket.socket(socket.AF_UNIX) as line,
        line.makefile("rb") as heard,
    ):
        line.connect(sock)
        line.settimeout(60)

        def say(command: bytes) -> None:
            line.sendall(command + b"\r\n")
            while (answer := heard.readline()).startswith(b"* "):
                pass
            assert answer.startswith(b"OK"), answer

        while not heard.readline().startswith(b"* OK"):
            pass
        for number in range(3):
            for user in ("ann", "ben"):
                if not number:
                    say(mailbox(f"user.{user}".encode(), f"id-{user}".encode()))
                mail = message(f"{user}-{number}")
                say(upload(mail))
                box = f"user.{user}.b{number}"
                say(mailbox(box.encode(), f"id-{user}-{number}".encode(), [mail]))
                recording.mark(f"{box} {user}-{number}")
    for cut in cuts(recording, between=BETWEEN):
        cut.disk.write(root, cut.chance)
        replica = conf(root, "replica", sync_listen=sock)
        store = opened(replica)
        try:
            for told in cut.told:
                name, subject = told.split(" ")
                assert subjects(store, name) == [subject], cut.number
        finally:
            store.close()
        check_store(replica)


def test_deliveries_and_their_lines_in_the_action_log(root: Path, tmp_path: Path) -> None:
    master = conf(root, "master", sync_log="yes")
    with Recording(root, tmp_path) as recording:
        run("mailstore", master, "create", "user/ann")
        recording.mark("user.ann")
        for number in range(2):
            run("mailstore", master, "deliver", "ann", stdin=message(f"m{number}"))
            recording.mark(f"m{number}")
        claimed = SyncLog(log_path(Config.load(master))).claim()
        assert claimed is not None
    for cut in cuts(recording, between=BETWEEN):
        cut.disk.write(root, cut.chance)
        store = opened(conf(root, "master", sync_log="yes"))
        try:
            found = subjects(store, "user.ann")
        finally:
            store.close()
        assert set(cut.told) <= {"user.ann", *found}, cut.number
        if cut.told:
            assert "user.ann" in logged(master), cut.number


def test_mail_that_a_rolling_client_has_claimed(root: Path, tmp_path: Path) -> None:
    sock = str(tmp_path / "s")

    def configured() -> tuple[Path, Path]:
        return conf(root, "master", sync_log="yes", sync_host=sock), conf(root, "replica", sync_listen=sock)

    master, replica = configured()
    with (
        Recording(root, tmp_path) as recording,
        running("sync_server", replica, "-e", ready=lambda: listens(sock)),
        running("sync_client", master, "-R", ready=log_path(Config.load(master)).parent.is_dir),
    ):
        log = log_path(Config.load(master))
        for number in range(3):
            user = f"u{number % 2}"
            if number < 2:
                run("mailstore", master, "create", f"user/{user}")
            run("mailstore", master, "deliver", user, stdin=message(f"m{number}"))
            recording.mark(f"user.{user} m{number}")
            until(lambda: not log.exists() and not log.with_name("log-run").exists(), "the log is done")
            recording.mark(f"user.{user} m{number} there")
    for count, cut in enumerate(cuts(recording, between=BETWEEN)):
        cut.disk.write(root, cut.chance)
        configured()
        here, there = opened(master), opened(replica)
        try:
            mine = {word: subjects(here, word) for word in ("user.u0", "user.u1")}
            theirs = {word: subjects(there, word) for word in ("user.u0", "user.u1")}
        finally:
            here.close()
            there.close()
        waiting = logged(master)
        for told in cut.told:
            name, subject, *done = told.split(" ")
            assert subject in mine[name], cut.number
            assert subject in theirs[name] or (name in waiting and not done), cut.number
        if count % 6 == 0 and cut.told:
            with running("sync_server", replica, "-e", ready=lambda: listens(sock)):
                if waiting:
                    run("sync_client", master, "-R", "-1")
            there = opened(replica)
            try:
                assert {name: subjects(there, name) for name in mine} == mine, cut.number
            finally:
                there.close()


def test_packets_that_were_exported_and_imported(root: Path, tmp_path: Path) -> None:
    boston, tokyo = Member("boston", root / "boston"), Member("tokyo", root / "tokyo", address="127.0.0.2")
    here, there = (site.directory / "imapd.conf" for site in (boston, tokyo))
    (root / "packets").mkdir()
    creation = root / "packets/creation"
    with Recording(root, tmp_path) as recording:
        run("mailstore", here, "create", "user/bob")
        run("multitool mkfamily", here, "-name", "mail", "boston")
        recording.mark("family boston")
        run("multitool mkreplica", here, "-export", "-out", creation, "127.0.0.2:tokyo")
        run("multitool mkreplica", there, "-import", *boston.pinned(), creation)
        recording.mark("family tokyo")
        for number in range(2):
            run("mailstore", here, "deliver", "bob", stdin=message(f"m{number}"))
            recording.mark(f"mail boston m{number}")
            packet = root / f"packets/{number}"
            run("syncreplica", here, "-export", "-out", packet, "tokyo")
            recording.mark(f"packet {packet} m{number}")
            run("syncreplica", there, "-import", packet)
            recording.mark(f"mail tokyo m{number}")
    sites = {"boston": boston, "tokyo": tokyo}
    for cut in cuts(recording, between=BETWEEN // 2):
        cut.disk.write(root, cut.chance)
        for told in cut.told:
            what, name, *subject = told.split(" ")
            if what == "family":
                assert sites[name].family_keys(name), cut.number
            elif what == "mail":
                assert subject[0] in sites[name].subjects("user.bob"), cut.number
            elif not Path(name).exists():
                assert subject[0] in tokyo.subjects("user.bob"), cut.number
        if "family tokyo" in cut.told:
            for packet in sorted((root / "packets").glob("[0-9]")):
                assert tokyo.syncreplica("-import", packet) == 0, cut.number
            (tmp_path / "by hand").mkdir(exist_ok=True)
            exchange([boston, tokyo], tmp_path / "by hand")
            expected = boston.subjects("user.bob")
            assert tokyo.subjects("user.bob") == expected == sorted(set(expected)), cut.number


def test_files_that_were_shipped(root: Path, tmp_path: Path) -> None:
    port = free_port()
    boston, hub = Host(root / "boston", "127.0.0.1", port), Host(root / "hub", "127.0.0.2", port)
    content = {f"p{number}": message(f"p{number}") * (1 + 2000 * number) for number in range(3)}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with (
        Recording(root, tmp_path) as recording,
        running("shipping_server", hub.config_file, "-receiver", ready=lambda: takes(hub)),
    ):
        for name in content:
            run("mkorder", boston.config_file, "-data", tmp_path / name, "-ship", "-copy", hub.name)
            recording.mark(f"ordered {name}")
            run("shipping_server", boston.config_file, "-poll")
            recording.mark(f"shipped {name}")
    for count, cut in enumerate(cuts(recording, between=BETWEEN)):
        cut.disk.write(root, cut.chance)
        (root / "boston/notify").chmod(0o755)
        for told in cut.told:
            what, name = told.split(" ")
            if hub.incoming().get(name) == content[name]:
                continue
            assert what == "ordered", cut.number
            assert (boston.bay / "outgoing" / name).read_bytes() == content[name], cut.number
            assert Order.load(boston.bay / f"outgoing/sh_o_{name}").destinations == (hub.name,), cut.number
        if count % 3 == 0:
            with running("shipping_server", hub.config_file, "-receiver", ready=lambda: takes(hub)):
                run("shipping_server", boston.config_file, "-poll")
            came = hub.incoming()
            expected = {told.split(" ")[1] for told in cut.told}
            assert expected <= set(came) <= set(content) and all(content[n] == came[n] for n in came)


def takes(host: Host) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host.name, host.port)) == 0


def test_the_replay_loses_what_nobody_has_synced(root: Path, tmp_path: Path) -> None:
    script = "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(f, b'x')"
    sync_file, sync_root = "os.fsync(f)", "os.fsync(os.open(os.path.dirname(sys.argv[1]), 0))"

    def do(name: str, *syncs: str) -> None:
        subprocess.run([sys.executable, "-c", "; ".join([script, *syncs]), root / name], check=True)
        recording.mark(name)

    with Recording(root, tmp_path) as recording:
        do("no name", sync_file)
        do("no octets", sync_root)
        do("whole", sync_file, sync_root)
    left: dict[str, dict[str, bytes]] = {}
    for cut in cuts(recording, between=0):
        if cut.chance is None:
            cut.disk.write(root)
            left[cut.told[-1]] = {path.name: path.read_bytes() for path in root.iterdir()}
    assert left["no name"] == {}
    assert left["no octets"] == {"no name": b"x", "no octets": b""}
    assert left["whole"] == {"no name": b"x", "no octets": b"", "whole": b"x"}
