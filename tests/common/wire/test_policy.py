"""The whole table of layers and settings: what is offered, accepted, refused. The judge is a real Cyrus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.wire import replies
from cyrus_sync.common.wire.policy import MECHANISMS, Layer, Policy, certificate_user, common
from cyrus_sync.common.wire.sasl.client import Credentials, choose, why_not
from tests.common.wire.kit import issue

TABLE = json.loads((Path(__file__).parents[2] / "data" / "sasl-layers.json").read_text())
CREDENTIALS = Credentials("cyrus", "secret")


def row_name(row: list[Any]) -> str:
    ssf, allow, minimum, maximum, tls, _, _ = row
    return f"p{ssf}-{'plaintext' if allow else 'noplaintext'}-min{minimum}-max{maximum}-{tls}"


def of_row(row: list[Any]) -> tuple[Policy, Layer]:
    ssf, allow, minimum, maximum, tls, _, _ = row
    layer = Layer(max(ssf, 256 if tls != "none" else 0), tls != "none", "cyrus" if tls == "cert" else None)
    return Policy(allow_plaintext=allow, minimum_layer=minimum, maximum_layer=maximum), layer


@pytest.mark.covers("imapd.conf", "allowplaintext", "sasl_minimum_layer")
@pytest.mark.covers(
    "Replies of the session", "OK Success (no protection)", "NO mechanism too weak for this user"
)
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "55")
@pytest.mark.parametrize("row", TABLE["rows"], ids=row_name)
def test_a_server_offers_what_cyrus_offers_and_answers_plain_as_cyrus_does(row: list[Any]) -> None:
    policy, layer = of_row(row)
    offered, answer = row[5], row[6].encode()
    assert sorted(policy.usable(layer)) == sorted(offered)
    objection = policy.objection("PLAIN", layer)
    assert (objection.reply if objection else replies.success(layer.ssf, layer.tls)) == answer


@pytest.mark.parametrize("row", TABLE["rows"], ids=row_name)
def test_a_client_chooses_the_strongest_that_its_own_settings_allow_or_nothing(row: list[Any]) -> None:
    policy, layer = of_row(row)
    chosen = choose(MECHANISMS, policy, layer, CREDENTIALS, with_certificate=row[4] == "cert")
    expected = [mech for mech in MECHANISMS if mech in row[5]]
    assert chosen == (expected[0] if expected else None)
    only_plain = choose(["PLAIN"], policy, layer, CREDENTIALS, with_certificate=False)
    assert (only_plain == "PLAIN") == row[6].startswith("OK")


@pytest.mark.covers("imapd.conf", "tls_required")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_tls_required_refuses_everything_before_tls_or_an_external_layer(mechanism: str) -> None:
    policy = Policy(allow_plaintext=True, tls_required=True)
    for ssf in (0, 1):
        refused = policy.objection(mechanism, Layer(ssf, certificate="cyrus"))
        assert refused is not None
        assert refused.reply == replies.NEEDS_ENCRYPTION
    assert policy.objection(mechanism, Layer(128, certificate="cyrus")) is None


@pytest.mark.covers("imapd.conf", "sasl_mech_list")
def test_a_mechanism_outside_the_list_is_neither_offered_nor_accepted() -> None:
    policy = Policy(mechanisms=("SCRAM-SHA-256",))
    assert policy.usable(Layer(256)) == ("SCRAM-SHA-256",)
    objection = policy.objection("SCRAM-SHA-1", Layer(256))
    assert objection is not None
    assert objection.reply == replies.NO_MECHANISM


def test_without_a_password_a_client_can_only_use_its_certificate() -> None:
    nobody = Credentials()
    layer = Layer(256, tls=True)
    assert choose(MECHANISMS, Policy(), layer, nobody, with_certificate=True) == "EXTERNAL"
    assert choose(MECHANISMS, Policy(), layer, nobody, with_certificate=False) is None
    assert "sync_authname" in why_not(MECHANISMS, Policy(), layer, nobody, with_certificate=False)


def test_the_reason_names_every_mechanism_offered_and_the_layer_in_force() -> None:
    reason = why_not(["PLAIN", "GSSAPI"], Policy(), Layer(), CREDENTIALS, with_certificate=False)
    assert "layer in force: none" in reason
    assert "PLAIN: it would send the password in clear" in reason
    assert "GSSAPI: not known here" in reason
    assert "offers no mechanism" in why_not([], Policy(), Layer(), CREDENTIALS, with_certificate=False)


def test_offered_mechanisms_are_compared_without_case_and_kept_in_our_order() -> None:
    assert common(["plain", "scram-sha-1", "X"], MECHANISMS) == ["SCRAM-SHA-1", "PLAIN"]


def test_the_user_of_a_certificate_is_its_common_name_in_lower_case(tmp_path: Path) -> None:
    class Shown:
        def to_cryptography(self) -> Any:
            return issue(tmp_path, "Admin").certificate

    assert certificate_user(Shown()) == "admin"
    assert certificate_user(None) is None


# -- from imapd.conf


def load(tmp_path: Path, text: str, program: str = "sync_client") -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n{text}")
    return Config.load(path, program)


@pytest.mark.covers("imapd.conf", "sasl_mech_list", "allowplaintext", "sasl_minimum_layer", "tls_required")
def test_the_server_reads_its_policy_from_imapd_conf(tmp_path: Path) -> None:
    assert Policy.for_server(load(tmp_path, "", "sync_server")) == Policy()
    cfg = load(
        tmp_path,
        "allowplaintext: yes\nsasl_minimum_layer: 56\nsasl_maximum_layer: 128\ntls_required: yes\n"
        "sasl_mech_list: login plain GSSAPI\n",
        "sync_server",
    )
    assert Policy.for_server(cfg) == Policy(True, 56, 128, True, ("PLAIN", "LOGIN"))


@pytest.mark.covers("imapd.conf", "sasl_pwcheck_method")
def test_scram_is_not_offered_where_only_saslauthd_knows_the_passwords(tmp_path: Path) -> None:
    cfg = load(tmp_path, "sasl_pwcheck_method: saslauthd\n", "sync_server")
    assert Policy.for_server(cfg).mechanisms == ("EXTERNAL", "PLAIN", "LOGIN")


@pytest.mark.covers("imapd.conf", "sync_allowplaintext")
@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", False),
        ("allowplaintext: yes\n", True),
        ("allowplaintext: yes\nsync_allowplaintext: no\n", False),
        ("sync_allowplaintext: yes\n", True),
        ("sync_allowplaintext: yes\nnorth_sync_allowplaintext: no\n", False),
    ],
)
def test_a_client_is_told_to_send_passwords_in_clear_or_does_not(
    tmp_path: Path, text: str, allowed: bool
) -> None:
    assert Policy.for_client(load(tmp_path, text), "north", "replica").allow_plaintext is allowed


@pytest.mark.covers("imapd.conf", "cyrus_csync_allowplaintext")
@pytest.mark.parametrize(
    ("text", "host", "allowed"),
    [
        ("", "localhost", True),
        ("", "127.0.0.2", True),
        ("", "::1", True),
        ("", "localhost.example.org", False),
        ("", "10.0.0.1", False),
        ("allowplaintext: yes\n", "10.0.0.1", True),
        ("cyrus_csync_allowplaintext: no\n", "localhost", False),
        ("cyrus_csync_allowplaintext: yes\n", "10.0.0.1", True),
        ("sync_allowplaintext: yes\n", "10.0.0.1", False),
    ],
)
def test_within_the_machine_a_password_may_go_in_clear(
    tmp_path: Path, text: str, host: str, allowed: bool
) -> None:
    assert Policy.for_own_server(load(tmp_path, text), host).allow_plaintext is allowed


@pytest.mark.covers("imapd.conf", "force_sasl_client_mech")
def test_mechanisms_of_one_host_go_before_those_of_all(tmp_path: Path) -> None:
    cfg = load(tmp_path, "force_sasl_client_mech: PLAIN\nreplica_mechs: SCRAM-SHA-1 LOGIN\n")
    assert Policy.for_client(cfg, None, "replica.example").mechanisms == ("SCRAM-SHA-1", "LOGIN")
    assert Policy.for_client(cfg, None, "other.example").mechanisms == ("PLAIN",)
