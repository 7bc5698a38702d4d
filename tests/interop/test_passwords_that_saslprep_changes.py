"""SCRAM prepares passwords (RFC 4013), a real server does not: who is refused for that is told so."""

from __future__ import annotations

import subprocess

import pytest

from .cyrus import ADMIN, Cyrus, give_to_cyrus
from .ours import Ours
from .releases import search_path


@pytest.mark.parametrize(
    ("password", "changed"),
    [("\ufb01", True), ("\u00aa\u00bd", True), ("a\u00a0b", True), ("\u00fc", False), ("plain words", False)],
)
def test_our_client_says_why_a_real_server_refuses_it(password: str, changed: bool) -> None:
    with (
        Cyrus.running("prepared", {"sasl_mech_list": "PLAIN SCRAM-SHA-256"}) as cyrus,
        Ours.installed("prepared", serving=False) as ours,
    ):
        ours.mailstore("create", "user/al").check()
        database = cyrus.root / "conf" / "sasldb2"
        command = ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", cyrus.servername, ADMIN]
        command = cyrus.release.command(*command)
        subprocess.run(
            command, input=password.encode(), check=True, env={"PATH": search_path()}, **cyrus.release.how
        )
        give_to_cyrus(database.parent)
        for mechanism in ("SCRAM-SHA-256", "PLAIN"):
            extra = {"sync_password": password, "force_sasl_client_mech": mechanism}
            ran = ours.sync_client("-u", "al", to=cyrus.csync, extra=extra)
            refused = changed and mechanism != "PLAIN"
            assert (ran.status != 0) == refused, ran.describe()
            assert ("SCRAM prepares user name and password" in ran.err) == refused, ran.describe()
