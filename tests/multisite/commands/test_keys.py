"""keys, setaside, and how a new replica knows who made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from tests.multisite.commands.kit import Server, send

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]
PHRASE = "we met in the rain"


def shown(server: Server, capfd: Capture) -> dict[str, str]:
    """Fingerprint by replica, as `keys` prints it."""
    capfd.readouterr()
    assert server.multitool("keys") == 0
    lines = [line.lstrip("* ").split(maxsplit=1) for line in capfd.readouterr().out.splitlines()]
    return dict(lines)


def test_keys_shows_the_same_everywhere_and_changes_this_replicas(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    before = shown(bangalore, capfd)
    assert before == shown(boston_hub, capfd) and len(before) == 2
    assert bangalore.multitool("keys", "-new") == 0
    after = shown(bangalore, capfd)
    assert after["bangalore"] != before["bangalore"] and after["boston_hub"] == before["boston_hub"]
    assert send(bangalore, boston_hub, tmp_path)
    assert shown(boston_hub, capfd) == after
    assert bangalore.multitool("keys", "operand") == 64


def test_the_fingerprint_is_printed_by_the_export_and_compared_by_the_import(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    tokyo, path = Server("tokyo", tmp_path / "tokyo"), tmp_path / "repl"
    capfd.readouterr()
    assert bangalore.multitool("mkreplica", "-export", "-out", path, "tokyo:tokyo") == 0
    said = capfd.readouterr().err
    digits = said.rpartition(" is ")[2].strip()
    assert "to be compared where tokyo is made" in said
    assert tokyo.multitool("mkreplica", "-import", path) == 1
    assert "-fingerprint and these digits" in capfd.readouterr().err
    assert tokyo.multitool("mkreplica", "-import", "-fingerprint", boston_hub.pinned()[1], path) == 1
    assert "and not what was given" in capfd.readouterr().err
    assert tokyo.multitool("mkreplica", "-import", "-fing", digits.upper().replace(" ", ""), path) == 0


def phrase(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "phrase"
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


def test_a_passphrase_stands_for_the_fingerprint(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    tokyo, path = Server("tokyo", tmp_path / "tokyo"), tmp_path / "repl"
    secret = phrase(tmp_path, PHRASE)
    capfd.readouterr()
    made = bangalore.multitool("mkreplica", "-export", "-secret", secret, "-out", path, "tokyo:tokyo")
    assert made == 0 and "fingerprint" not in capfd.readouterr().err
    assert tokyo.multitool("mkreplica", "-import", path) != 0
    assert "-secret FILE" in capfd.readouterr().err
    assert tokyo.multitool("mkreplica", "-import", "-secret", phrase(tmp_path, "another phrase"), path) == 1
    assert tokyo.multitool("mkreplica", "-import", "-secret", phrase(tmp_path, PHRASE), path) == 0


@pytest.mark.parametrize(
    ("secret", "said"), [(("short", 0o600), "12 characters"), ((PHRASE, 0o644), "chmod 600")]
)
def test_a_file_with_a_passphrase_is_looked_at_first(
    pair: Pair, tmp_path: Path, capfd: Capture, secret: tuple[str, int], said: str
) -> None:
    path = phrase(tmp_path, *secret)
    arguments = ("-export", "-secret", path, "-out", tmp_path / "repl", "tokyo:tokyo")
    assert pair[0].multitool("mkreplica", *arguments) == 64
    assert said in capfd.readouterr().err
    assert pair[0].multitool("lsreplica", "tokyo") == 1, "it was not made"


def test_setaside_shows_what_waits_and_why_and_drops_it(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    with bangalore.member() as member:
        bad = member.log.operations.append(Owner("user", "bob\x1b[2J"), b"nonsense\r\n", time=1)
    name = f"{bad.id}@bangalore"
    assert boston_hub.multitool("setaside") == 0
    packet = tmp_path / "packet"
    assert bangalore.syncreplica("-export", "-out", packet, "boston_hub") == 0
    assert boston_hub.syncreplica("-import", packet) == 1, "not all of it was done"
    assert not packet.exists()
    capfd.readouterr()
    assert boston_hub.multitool("setaside") == 1
    line = capfd.readouterr().out
    assert line.startswith(f"{name}  ") and "\x1b" not in line and "bob\\x1b[2J" in line
    assert boston_hub.multitool("setaside", "-drop") == 64
    assert boston_hub.multitool("setaside", "-drop", "9@nobody") == 1
    assert boston_hub.multitool("setaside", "-drop", name) == 0
    capfd.readouterr()
    assert boston_hub.multitool("setaside") == 0 and capfd.readouterr().out == ""
