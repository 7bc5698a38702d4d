"""What a command loads when it starts: only what it uses. Counted, not timed, so that a busy machine is no
matter; a module of these takes from two to sixty milliseconds, and they were half of a short run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.ours import environment

TLS = ("OpenSSL", "cryptography", "service_identity", "twisted.protocols.tls")
HEAVY = (
    *TLS,
    "rich",
    "yaml",
    "nacl",
    "scramp",
    "email.parser",
    "http.client",
    "prometheus_client",
    "twisted.web",
    "asyncio",
    "ssl",
    "email.header",
)
OTHER_MODES = (
    "cyrus_sync.sync_client.rolling",
    "cyrus_sync.sync_client.sources",
    "cyrus_sync.sync_client.quarantine",
    "cyrus_sync.sync_client.status",
    "cyrus_sync.sync_client.comparing.findings",
    "cyrus_sync.common.protocol.connection_server",
    "cyrus_sync.common.stores.native.care.verify",
)
NATIVE = ("sqlite3", "zstandard", "cyrus_sync.common.stores.native")


def loaded(command: str, *words: str) -> set[str]:
    """The modules that are there when the command has ended."""
    code = (
        f"import sys\nsys.argv = {[command, *words]!r}\nfrom cyrus_sync.common import console\n"
        f"status = console.{command}()\n"
        "print('modules:', *(name for name, module in sys.modules.items() if module is not None),"
        " file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    (line,) = (line for line in ran.stderr.splitlines() if line.startswith("modules:"))
    return set(line.split())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nservername: a.example.org\n"
        "sync_host: 127.0.0.1:1\nsync_authname: repl\nsync_password: secret\nsync_try_imap: no\n"
        "sync_allowplaintext: yes\n"
    )
    path.chmod(0o600)
    return path


def test_a_run_in_clear_loads_nothing_of_tls_nor_what_it_does_not_use(conf: Path) -> None:
    found = loaded("sync_client", "-C", str(conf), "-o", "-u", "alice")
    assert "twisted.internet.tcp" in found, "it has tried to connect"
    assert "cyrus_sync.common.stores.native.store" in found
    assert "cyrus_sync.spool.master" not in found
    assert found.isdisjoint(HEAVY)
    assert found.isdisjoint(OTHER_MODES)


def test_beside_a_real_cyrus_nothing_of_our_own_store_is_loaded(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "mail").mkdir()
    (tmp_path / "conf" / "mailboxes.db").touch()
    found = loaded("sync_client", "-C", str(conf), "-o", "-u", "alice")
    assert {"twisted.internet.tcp", "cyrus_sync.spool.master"} <= found
    assert found.isdisjoint((*HEAVY, "sqlite3", "cyrus_sync.common.stores.native"))


def test_a_site_with_a_store_of_its_own_loads_nothing_of_a_real_cyrus(conf: Path) -> None:
    found = loaded("multitool", "mkfamily", "-C", str(conf), "-name", "mail", "boston")
    assert {"cyrus_sync.multisite.member", "cyrus_sync.common.stores.native.store"} <= found
    assert found.isdisjoint(
        (*TLS, "cyrus_sync.spool.master", "cyrus_sync.csync", "cyrus_sync.common.wire.client")
    )


def test_help_loads_no_engine_and_status_no_rolling_client(conf: Path) -> None:
    found = loaded("sync_client", "-C", str(conf), "--help")
    assert found.isdisjoint((*HEAVY, *NATIVE, "twisted", "cyrus_sync.sync_client.engine"))
    found = loaded("sync_client", "-C", str(conf), "--status")
    assert found.isdisjoint((*HEAVY, "twisted.internet.reactor", "cyrus_sync.sync_client.rolling"))


@pytest.mark.parametrize("command", ["sync_client", "mailstore", "syncreplica"])
def test_no_event_loop_but_twisteds_is_loaded_for_a_coroutines_type(command: str) -> None:
    found = loaded(command, "-help" if command == "syncreplica" else "--help")
    assert found.isdisjoint(("asyncio", "ssl", "email.header", "twisted.web"))


@pytest.mark.parametrize("command", ["mailstore", "cyr_synclog", "sync_reset", "mkorder", "shipping_server"])
def test_help_is_printed_without_a_network_or_a_store(command: str) -> None:
    found = loaded(command, "-help" if command in ("mkorder", "shipping_server") else "--help")
    assert found.isdisjoint((*HEAVY, *NATIVE, "twisted.internet.defer", "asyncio"))


def test_the_modules_that_are_put_off_are_there_when_they_are_used() -> None:
    code = (
        "from cyrus_sync.common.lean import begin_lean, with_tls\n"
        "begin_lean()\n"
        "from http import cookiejar\nimport sys\n"
        "assert 'http.client' not in sys.modules\n"
        "jar = cookiejar.CookieJar()\n"
        "assert isinstance(jar, sys.modules['http.cookiejar'].CookieJar)\n"
        "try:\n    import OpenSSL\nexcept ImportError:\n    pass\nelse:\n    raise SystemExit('loaded')\n"
        "import cyrus_sync.common.wire.tls\nimport OpenSSL\nprint(OpenSSL.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "OpenSSL\n"


def test_deferreds_and_futures_know_each_other_all_the_same() -> None:
    code = (
        "from cyrus_sync.common.lean import begin_lean\n"
        "begin_lean()\n"
        "import sys\n"
        "from twisted.internet.defer import Deferred, succeed\n"
        "assert 'asyncio' not in sys.modules\n"
        "async def work():\n    return await succeed(1) + 1\n"
        "got = []\nDeferred.fromCoroutine(work()).addCallback(got.append)\n"
        "import asyncio\n"
        "async def main():\n    return await succeed(3).asFuture(asyncio.get_running_loop())\n"
        "print(got, asyncio.run(main()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[2] 3\n"
