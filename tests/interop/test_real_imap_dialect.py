"""Replication within IMAP: our sync_client with ``sync_try_imap: yes`` at a real imapd, and elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from tests.common.wire.kit import issue
from tests.deadlines import scaled

from .csync import differences, state_of
from .cyrus import Address, Cyrus, give_to_cyrus
from .fill import message
from .ours import Ours
from .proxy import Proxy
from .running import default_ground

JANUARY = 1704103200
TRY_IMAP = {"sync_try_imap": "yes"}


@pytest.fixture(scope="module")
def ours(real_cyrus: None) -> Iterator[Ours]:
    with Ours.installed("master") as installation:
        yield installation
        installation.verify()


@pytest.fixture
def filled(ours: Ours, user: str) -> str:
    """A user with flags, an annotation, a folder, a large message and several thousand small ones."""
    inbox = f"user.{user}"
    with ours.store.write(Owner("user", user)) as box:
        box.create(inbox)
        box.append(
            inbox, [(message("one"), JANUARY, "\\Seen $Forwarded"), (message("two", 3 << 20), JANUARY, "")]
        )
        box.annotate(inbox, "/comment", "", b"\0nul\0", uid=1)
        box.create(f"{inbox}.many")
        box.append(f"{inbox}.many", ((message(f"mail {n}"), JANUARY, "") for n in range(2500)))
    return user


def imap_of(cyrus: Cyrus) -> Address:
    return ("127.0.0.1", cyrus.ports["imap"])


def sent(proxy: Proxy) -> list[str]:
    """What changes the replica."""
    return [line for line in proxy.commands("S") if " SYNCAPPLY " in line and " CAPABILITIES " not in line]


@pytest.mark.covers("imapd.conf", "sync_try_imap")
@pytest.mark.every_release
def test_a_user_arrives_at_an_imapd_and_a_second_run_has_nothing_to_do(
    ours: Ours, replica: Cyrus, filled: str
) -> None:
    with Proxy(imap_of(replica)) as proxy:
        ours.sync_client("-u", filled, to=proxy.address, extra=TRY_IMAP).check()
        lines = sent(proxy)
        assert any(" SYNCAPPLY MESSAGE " in line for line in lines)
        assert any(" SYNCAPPLY MAILBOX " in line for line in lines)
    assert differences(state_of(ours.csync, filled), state_of(replica.csync, filled)) == []
    with Proxy(imap_of(replica)) as proxy:
        ours.sync_client("-u", filled, to=proxy.address, extra=TRY_IMAP).check()
        assert sent(proxy) == []
        assert proxy.commands("S0 SYNC"), "it was within IMAP"


@pytest.mark.every_release
def test_what_changed_at_the_imapd_comes_back(ours: Ours, replica: Cyrus, filled: str) -> None:
    to = imap_of(replica)
    ours.sync_client("-u", filled, to=to, extra=TRY_IMAP).check()
    with replica.imap(filled) as imap:
        imap.append("INBOX", message("from the other side"))
    ours.sync_client("-u", filled, to=to, extra=TRY_IMAP).check()
    assert differences(state_of(ours.csync, filled), state_of(replica.csync, filled)) == []


def test_our_own_server_and_a_real_csync_server_are_gone_on_with_at_once(
    ours: Ours, replica: Cyrus, user: str
) -> None:
    with ours.store.write(Owner("user", user)) as box:
        box.create(f"user.{user}")
        box.append(f"user.{user}", [(message("one"), JANUARY, "")])
    with Ours.installed("copy") as copy:
        for other in (copy, replica):
            with Proxy(other.csync) as proxy:
                done = ours.sync_client("-u", user, to=proxy.address, extra=TRY_IMAP).check()
                assert proxy.commands("C01 CAPABILITY")
                assert proxy.commands("APPLY MAILBOX")
            assert done.seconds < scaled(4), "it did not wait for client_timeout"
            assert differences(state_of(ours.csync, user), state_of(other.csync, user)) == []


def test_an_imapd_that_does_not_offer_replication_is_passed_over(ours: Ours, user: str) -> None:
    settings = {"suppress_capabilities": "X-REPLICATION", "sync_log": "0"}
    with ours.store.write(Owner("user", user)) as box:
        box.create(f"user.{user}")
    with Cyrus.running("silent", settings) as silent:
        done = ours.sync_client("-u", user, to=imap_of(silent), extra=TRY_IMAP)
        assert done.status != 0
        assert "an imapd without X-REPLICATION" in done.err


@pytest.fixture(scope="module")
def secured(real_cyrus: None) -> Iterator[tuple[Cyrus, Path]]:
    """A real Cyrus that takes a login by SCRAM and has TLS; the authority's certificate."""
    with tempfile.TemporaryDirectory(prefix="cy-certificates-", dir=default_ground()) as directory:
        root = Path(directory)
        authority = issue(root, "authority", ca=True)
        server = issue(root, "server", authority, hosts=("127.0.0.1",))
        give_to_cyrus(root)
        settings = {
            "sasl_mech_list": "PLAIN SCRAM-SHA-256",
            "allowstarttls": "on",  # the default up to 3.8
            "tls_server_cert": str(server.cert),
            "tls_server_key": str(server.key),
        }
        with Cyrus.running("secured", settings) as cyrus:
            yield cyrus, authority.cert


@pytest.mark.covers("imapd.conf", "sync_try_imap")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "A01 AUTHENTICATE SCRAM-SHA-256"),
        ({"force_sasl_client_mech": "PLAIN", "sync_allowplaintext": "no"}, "S01 STARTTLS"),
    ],
    ids=["scram", "starttls"],
)
def test_a_user_arrives_at_an_imapd_by_scram_and_under_tls(
    ours: Ours, secured: tuple[Cyrus, Path], filled: str, options: dict[str, str], said: str
) -> None:
    cyrus, authority = secured
    extra = {**TRY_IMAP, "tls_server_ca_file": str(authority), **options}
    with Proxy(imap_of(cyrus)) as proxy:
        ours.sync_client("-u", filled, to=proxy.address, extra=extra).check()
        assert proxy.commands(said)
        assert not proxy.commands("A01 AUTHENTICATE PLAIN"), "the password was readable"
    assert differences(state_of(ours.csync, filled), state_of(cyrus.csync, filled)) == []
