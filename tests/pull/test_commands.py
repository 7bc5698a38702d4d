"""``sync_client`` with ``sync_source: imap``, as it is typed, and what imapd.conf says to it."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import AuthenticationFailed, ConfigError
from cyrus_sync.pull.settings import ImapSettings
from cyrus_sync.sync_client.cli import main
from tests.common.wire.kit import issue
from tests.dovecot.pulling import message
from tests.ports import free_port
from tests.pull.fake import FULL, PLAIN, Box, FakeImap


class Conf:
    """A configuration of our own; `run` is the command in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path / "imapd.conf"
        self._head = (
            f"configdirectory: {path}/conf\npartition-default: {path}/spool\nsync_source: imap\n"
            "sync_log: yes\nimap_sieve_port: 0\n"
        )

    def write(self, server: FakeImap | None, *lines: str) -> Conf:
        at = [f"imap_host: 127.0.0.1\nimap_port: {server.port}\n"] if server else []
        self.path.touch(0o600)
        self.path.write_text(self._head + "".join(at) + "".join(f"{line}\n" for line in lines))
        return self

    def run(self, *words: str) -> int:
        return main(["-C", str(self.path), *words])

    def settings(self) -> ImapSettings:
        return ImapSettings.from_config(Config.load(self.path))


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    return Conf(tmp_path)


MASTER = ("imap_master_user: master", "imap_password: secret")


@pytest.mark.covers("imapd.conf", "imap_host", "imap_master_user")
def test_users_are_pulled_and_each_is_told_of(
    conf: Conf, server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    server.boxes["INBOX"].add(message(1))
    conf.write(server, *MASTER)
    assert conf.run("-v", "-u", "alice", "bob@example.org") == 0
    out = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(":")[0] for line in out) == ["alice", "bob@example.org"]
    assert all("1 messages" in line for line in out)
    log = (conf.path.parent / "conf/sync/log").read_text()
    assert "APPEND user.alice\n" in log and "APPEND example.org!user.bob\n" in log
    assert conf.run("-v", "-u", "alice") == 0
    assert capsys.readouterr().out == "alice: nothing has changed\n"


def test_what_fails_is_named_and_all_others_go_on(
    conf: Conf, server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    server.boxes["INBOX"].add(message(1))
    server.boxes["INBOX"].add(message(2))
    server.bad = {1: "NO"}
    conf.write(server, *MASTER)
    assert conf.run("-u", "alice", "bob") == 1
    err = capsys.readouterr().err
    assert 'pull incomplete: user=alice reason="INBOX: uid 1 is left out: [SERVERBUG] it' in err
    server.login_answer = "NO [AUTHENTICATIONFAILED] no such user"
    assert conf.run("-u", "alice") == 1
    assert "pull failed: user=alice " in capsys.readouterr().err


def test_a_server_that_is_down_is_asked_once(conf: Conf, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    conf.write(None, f"imap_host: 127.0.0.1\nimap_port: {port}", *MASTER, "imap_connections: 1")
    assert conf.run("-u", "alice", "bob", "carol") == 1
    text = f"cannot pull from 127.0.0.1:{port}: Connection refused; 2 more users were not tried\n"
    assert text in capsys.readouterr().err


def test_what_cannot_be_pulled_is_refused(
    conf: Conf, server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write(server, *MASTER)
    for words in (("-m", "user/alice"), ("-s", "alice"), ("-S", "host", "-u", "alice")):
        assert conf.run(*words) == 64
        assert "sync_source: imap" in capsys.readouterr().err
    conf.write(None, *MASTER)
    assert conf.run("-u", "alice") == 78
    assert "imap_host does not say where" in capsys.readouterr().err
    conf.write(server)
    assert conf.run("-u", "alice") == 78
    assert "nobody can log in" in capsys.readouterr().err


@pytest.mark.covers("imapd.conf", "imap_users", "imap_passwords", "imap_connections")
def test_everybody_is_whom_the_configuration_names(
    conf: Conf, server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    passwords, names = conf.path.parent / "passwords", conf.path.parent / "names"
    passwords.write_text("\ufeff# single users\nalice:a\nbob@x.org:b:c\n")
    names.write_text("\ufeffcarol\n\nalice\n")

    def pulled(*lines: str) -> list[str]:
        conf.write(server, *lines)
        conf.run("-v", "-A")
        return sorted(line.partition(":")[0] for line in capsys.readouterr().out.splitlines())

    single = f"imap_passwords: {passwords}"
    assert pulled(single) == ["alice", "bob@x.org"]
    assert pulled(single, "imap_users: *@x.org") == ["bob@x.org"]
    assert pulled(*MASTER, f"imap_users: {names} dave", "imap_connections: 2") == ["alice", "carol", "dave"]
    assert pulled(*MASTER, "imap_users: |printf 'erin\\nfrank\\n'") == ["erin", "frank"]
    assert pulled(*MASTER) == ["alice", "bob@x.org", "carol", "dave", "erin", "frank"], "who is here"
    conf.write(server, *MASTER, "imap_users: |false")
    assert conf.run("-A") == 78
    conf.write(server, single)
    assert conf.run("-u", "nobody") == 1
    assert "has no password of nobody" in capsys.readouterr().err


def test_who_sees_shared_folders_is_pulled_for_these_alone_if_nobody_names_him(
    conf: Conf, server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Public/News": Box(3)}
    for box in server.boxes.values():
        box.add(message(1))
    conf.write(
        server, *MASTER, "imap_users: alice", "imap_shared_user: boss@internal", "defaultdomain: internal"
    )
    assert conf.run("-v", "-A") == 0
    log = (conf.path.parent / "conf/sync/log").read_text()
    assert "APPEND user.alice\n" in log and "APPEND News\n" in log and "user.boss" not in log
    assert conf.run("-v", "-u", "boss") == 0, "who is named is meant"
    assert "APPEND user.boss\n" in (conf.path.parent / "conf/sync/log").read_text()
    conf.write(server, *MASTER, "imap_shared_user: a/b")
    assert conf.run("-A") == 78 and "imap_shared_user: a/b" in capsys.readouterr().err


def test_passwords_are_read_once_and_again_when_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads, read = tmp_path / "passwords", [], Path.read_text

    def counted(self: Path, *words: Any) -> str:
        reads.append(self)
        return read(self, *words)

    monkeypatch.setattr(Path, "read_text", counted)
    path.write_text("alice:a\nbob:b\n")
    settings = ImapSettings("mail.example.org", passwords=path)
    assert [settings.password_of(user) for user in ("alice", "bob", "alice")] == ["a", "b", "a"]
    assert reads == [path]
    path.write_text("alice:new\n")
    assert settings.password_of("alice") == "new"
    with pytest.raises(AuthenticationFailed):
        settings.password_of("bob")
    path.unlink()
    with pytest.raises(ConfigError, match="passwords"):
        settings.password_of("alice")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """A server's context for localhost, and who vouches for it."""
    directory = tmp_path_factory.mktemp("tls")
    authority = issue(directory, "authority", ca=True)
    server = issue(directory, "server", authority, hosts=("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    yield context, authority.cert


@pytest.mark.covers("imapd.conf", "imap_tls")
@pytest.mark.parametrize("how", ["tls", "starttls"])
def test_nothing_is_said_before_the_line_is_protected(
    how: str, conf: Conf, tls: tuple[ssl.SSLContext, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    context, cert = tls
    with FakeImap(f"{FULL} STARTTLS", context) as server:
        server.implicit = how == "tls"
        server.boxes["INBOX"].add(message(1))
        at = (f"imap_host: localhost\nimap_port: {server.port}", f"imap_tls: {how}", *MASTER)
        trusted = f"tls_server_ca_file: {cert}"
        conf.write(None, *at, trusted)
        assert conf.run("-u", "alice") == 0, capsys.readouterr().err
        conf.write(None, *at)
        assert conf.run("-u", "alice") == 1
        assert "certificate does not verify" in capsys.readouterr().err
        conf.write(None, *at, "imap_tls_verify: no")
        assert conf.run("-u", "alice") == 0
        conf.write(None, at[0].replace("localhost", "127.0.0.1"), *at[1:], trusted)
        assert conf.run("-u", "alice") == 1
        assert server.count("AUTHENTICATE") == 2
    with FakeImap(PLAIN) as plain:
        conf.write(plain, "imap_tls: starttls", *MASTER)
        assert conf.run("-u", "alice") == 1
        assert plain.count("AUTHENTICATE") == 0


def test_authorities_are_read_once_and_again_when_they_have_changed(
    conf: Conf, tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, cert = tls
    trusted, made, make = tmp_path / "trusted", [], ssl.create_default_context

    def counted(**how: Any) -> ssl.SSLContext:
        made.append(how)
        return make(**how)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    with FakeImap(f"{FULL} STARTTLS", context) as server:
        at = (f"imap_host: localhost\nimap_port: {server.port}", "imap_tls: starttls", *MASTER)
        conf.write(None, *at, f"tls_server_ca_file: {trusted}", "imap_connections: 1")
        trusted.write_bytes(cert.read_bytes())
        assert conf.run("-u", "alice", "bob") == 0
        assert len(made) == 1
        trusted.write_bytes(issue(tmp_path, "stranger", ca=True).cert.read_bytes())
        assert conf.run("-u", "alice") == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("imap_host: mail.example.org",), (143, "starttls")),
        (("imap_host: mail.example.org", "imap_port: 993"), (993, "tls")),
        (("imap_host: mail.example.org", "imap_tls: tls"), (993, "tls")),
        (("imap_host: mail.example.org", "imap_tls: no"), (143, "no")),
        (("imap_host: localhost",), (143, "no")),
        (("imap_host: ::1",), (143, "no")),
        (("imap_host: /run/dovecot/imap",), (143, "no")),
    ],
)
def test_how_the_line_is_protected(lines: tuple[str, ...], expected: tuple[int, str], conf: Conf) -> None:
    conf.write(None, *lines, *MASTER)
    settings = conf.settings()
    assert (settings.port, settings.tls) == expected


def test_a_master_user_needs_a_password(conf: Conf, server: FakeImap) -> None:
    conf.write(server, MASTER[0])
    with pytest.raises(ConfigError, match="imap_password is not set"):
        conf.settings()


def test_without_imapclient_it_says_what_to_install(conf: Conf, server: FakeImap) -> None:
    server.boxes["INBOX"].add(message(1))
    conf.write(server, *MASTER)
    program = (
        "import sys; sys.modules['imapclient'] = None\n"
        "from cyrus_sync.sync_client.cli import main\n"
        f"sys.exit(main(['-C', {str(conf.path)!r}, '-u', 'alice']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert f"{sys.executable} -m pip install 'imapclient>=3.0'" in done.stderr
