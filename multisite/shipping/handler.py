"""The receipt handler: the program that a host runs when a file has arrived.

``program -o origin-host [-d data-path] [-a order-path] [-s class]``: ``-d`` if the file is for this host,
``-a`` if it must travel on, ``-s`` for a named class.
"""

from __future__ import annotations

import os
import subprocess

from multisite.shipping.arrival import Arrived
from multisite.shipping.conf import DEFAULT_CLASS
from multisite.shipping.site import Site


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
    if command is None:
        return
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
    except OSError as error:
        site.log.error(f"the receipt handler cannot be run: {error}")
        return
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        site.log.error(f"{' '.join(command)} ended with status {done.returncode} {said}".rstrip())
