"""The receipt handler: the program that a host runs when a file has arrived.

``program -o origin-host [-d data-path] [-a order-path] [-s class]``: ``-d`` if the file is for this host,
``-a`` if it must travel on, ``-s`` for a named class.

Where none is configured, a host that has a replica of a family may have its packets imported, by
``syncreplica -import -receive`` (`multisite_import_on_arrival`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.shipping.completing import Arrived
from cyrus_sync.shipping.conf import DEFAULT_CLASS
from cyrus_sync.shipping.site import Site

UPDATE_PACKET = "sync_"
"""Names of packets that an import takes begin so. Packets that make a replica wait for a person."""

_SAID = 16 * 1024
"""How many of the last bytes that a failed program printed are logged."""


def handler_command(site: Site, arrived: Arrived) -> list[str] | None:
    """The command line, None if the class has no handler."""
    order = arrived.order
    program = site.conf.receipt_handler(order.storage_class)
    if not program:
        return None
    command = [program, "-o", order.origin]
    if arrived.here:
        command += ["-d", os.fsdecode(arrived.here)]
    if arrived.order_path:
        command += ["-a", os.fsdecode(arrived.order_path)]
    if order.storage_class != DEFAULT_CLASS:
        command += ["-s", order.storage_class]
    return command


def run_handler(site: Site, arrived: Arrived) -> None:
    """Run it to its end. A failure is logged; the file stays where it is."""
    command = handler_command(site, arrived)
    if command is not None:
        _run(site, command, "the receipt handler")


def imports_by_itself(site: Site) -> bool:
    """True if this host has a replica, and may run `syncreplica -import -receive` without being asked."""
    return site.import_on_arrival and (site.family_directory / "family.yaml").exists()


def is_to_import(site: Site, arrived: Arrived) -> bool:
    """True if what has come is an update packet for this host, and its class has no handler."""
    return (
        not arrived.order.returning
        and arrived.here is not None
        and arrived.here.name.startswith(UPDATE_PACKET)
        and handler_command(site, arrived) is None
    )


def packets_wait(site: Site) -> bool:
    """True if update packets lie in a bay for this host."""
    return any(any(bay.incoming.glob(f"{UPDATE_PACKET}*")) for bay in site.all_bays())


def import_command(site: Site) -> list[str]:
    """The console script, or the module where it is not installed."""
    script = Path(sys.executable).with_name("syncreplica")
    program = (
        [os.fsdecode(script)]
        if script.exists()
        else [sys.executable, "-P", "-m", "cyrus_sync.multisite.multitool", "syncreplica"]
    )
    return [*program, "-import", "-receive", "-C", os.fsdecode(site.config_path)]


def run_import(site: Site) -> None:
    """Import what is in the bays. A failure is logged; the packets stay where they are."""
    _run(site, import_command(site), "the import of what has come")


def _run(site: Site, command: list[str], what: str) -> None:
    # Not through a pipe: what the program leaves running in the background would hold it open.
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        except OSError as error:
            site.log.error(f"{what} cannot be run: {reason(error)}")
            return
        if done.returncode:
            site.log.error(f"{' '.join(command)} ended with status {done.returncode}")
            output.seek(max(0, output.tell() - _SAID))
            for line in output.read().decode("utf-8", "replace").splitlines():
                site.log.error(f"{Path(command[0]).name}: {line}")
