"""What a replica of a family tells Prometheus."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.contacts import Contact, note_contact, read_contacts
from cyrus_sync.multisite.figures import add_packets
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.multisite.oplog.database import FILE
from tests.multisite.world import Site, carry, family_of


def told(site: Site) -> dict[str, float]:
    """Value by name and the last label, those of all figures left out."""
    sheet = Sheet("multitool")
    add_packets(sheet, directory_of(site.config))
    labels = f'family="mail",replica="{site.name}"'
    lines = [line for line in plain_text(sheet).decode().splitlines() if "packets_" in line]
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        name.replace(f"{labels},", "").replace(f"{{{labels}}}", ""): float(value) for name, value in pairs
    }


def change(site: Site, user: str) -> None:
    """Make a user, and have the log tell of it."""
    with site.store() as store, store.write(Owner("user", user)) as writer:
        writer.create(f"user.{user}")
    with site.member() as member:
        assert not member.record()


def test_each_sibling_has_its_times_and_what_it_was_not_told(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    boston, rome, oslo = family_of(tmp_path, "boston", "rome", "oslo", clock=lambda: now)
    change(rome, "bob")
    now += 1000
    carry(rome, boston, tmp_path / "travel")
    now += 1000
    boston.export_to(oslo, tmp_path / "to oslo")
    found = told(boston)
    assert found['cyrus_sync_packets_last_import_timestamp_seconds{sibling="rome"}'] == now - 1000
    assert found['cyrus_sync_packets_last_import_timestamp_seconds{sibling="oslo"}'] == now - 2000
    assert found['cyrus_sync_packets_last_export_timestamp_seconds{sibling="oslo"}'] == now
    assert found['cyrus_sync_packets_untold_operations{sibling="oslo"}'] == 0
    assert found['cyrus_sync_packets_pending_operations{state="set_aside"}'] == 0
    change(boston, "alice")
    untold = told(boston)['cyrus_sync_packets_untold_operations{sibling="rome"}']
    assert untold > found['cyrus_sync_packets_untold_operations{sibling="rome"}']


def test_the_file_is_written_when_a_command_ends(tmp_path: Path) -> None:
    (site,) = family_of(tmp_path, "boston")
    figures = tmp_path / "node"
    figures.mkdir()
    with (site.directory / "imapd.conf").open("a") as conf:
        conf.write(f"sync_metrics_file: {figures}\n")
    with site.member():
        pass
    assert b"cyrus_sync_packets_sealed" in (figures / "cyrus_sync_packets.prom").read_bytes()
    (figures / "cyrus_sync_packets.prom").unlink()
    figures.rmdir()
    figures.write_text("another program's file")
    with site.member():
        pass
    assert figures.read_text() == "another program's file" and not site.heard


def test_who_is_no_replica_or_has_a_damaged_log_tells_nothing(tmp_path: Path) -> None:
    (site,) = family_of(tmp_path, "boston")
    (directory_of(site.config) / FILE).write_bytes(b"no database" * 1000)
    assert told(site) == {}
    nobody = Site("nobody", tmp_path / "nobody")
    assert told(nobody) == {}


def test_a_note_of_contacts_that_is_damaged_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "contacts.json").write_text('["rome"]')
    assert read_contacts(tmp_path) == {}
    note_contact(tmp_path, "rome", Contact(20, 10))
    note_contact(tmp_path, "rome", Contact(15, 12))
    note_contact(tmp_path, "oslo", Contact(1, 1))
    assert read_contacts(tmp_path) == {"rome": Contact(20, 12), "oslo": Contact(1, 1)}
    note_contact(tmp_path / "gone", "rome", Contact(1, 1))
