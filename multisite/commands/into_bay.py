"""Packets into a storage bay, each with its shipping order (``-ship``), and sent at once (``-fship``).

First a note says what is about to be written (`unsent`). Then the packets are written durably, and believed
delivered; then their orders are written, and the note is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.multisite.commands import unsent
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.commands.unsent import Unsent
from cyrus_sync.multisite.cutting import Exported, Place
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import DEFAULT_CLASS
from cyrus_sync.multisite.member import Member, directory_of
from cyrus_sync.shipping.bays import choose_bay, free_name
from cyrus_sync.shipping.errors import BadFileName
from cyrus_sync.shipping.names import bay_name, check_host
from cyrus_sync.shipping.run import deliver


class IntoBay:
    """The bay is one of the packet's class; with several, free space decides for each packet."""

    def __init__(self, context: Context, headline: str, comments: tuple[str, ...]) -> None:
        self._context = context
        self._headline = headline
        self._comments = comments
        self._directory = directory_of(context.config)
        self._orders: list[tuple[Path, Path]] = []
        """All packets and orders of this command."""

    def check(self, name: str, host: str) -> None:
        if not host:
            raise MultisiteError(f"{name} has no host to ship to (multitool chreplica -host HOST {name})")
        try:
            check_host(host)
        except BadFileName as error:
            raise MultisiteError(f"{name}: {error}") from None

    def resume(self, member: Member) -> None:
        for path, order in unsent.resume(member, self._context.site):
            self._context.warn(f"{path} had been left without a shipping order, and has one now: {order}")
            self._orders.append((path, order))

    # -- writing

    def send(self, prefix: str, target: tuple[str, str], write: Callable[[Place], Exported]) -> Exported:
        host, its_class = target
        packets = _Packets(self, self._unsent(host, its_class), prefix)
        done = write(packets.place)  # if this fails, the next command finds the note and tidies up
        if done.paths:
            self._order(packets.left, done.paths)
        unsent.forget(self._directory)
        return done

    def _unsent(self, host: str, its_class: str) -> Unsent:
        options = self._context.options
        expires = options.text("pexpire")
        return Unsent(
            host,
            options.text("sclass") or its_class or DEFAULT_CLASS,
            parse_datetime(expires) if expires is not None else None,
            options.texts("notify"),
            self._comments,
        )

    def _order(self, left: Unsent, paths: list[Path]) -> None:
        orders: dict[Path, Path] = {}
        try:
            orders.update(left.write_orders(self._context.site))
        except (CyrusSyncError, OSError) as error:
            lines = [f"  {left.command(str(path))}" for path in paths if not unsent.has_order(path)]
            raise MultisiteError(
                f"the packet is written, but not its shipping order: {reason(error)}\n"
                "The next syncreplica -export with -ship writes it, or by hand:\n" + "\n".join(lines)
            ) from None
        finally:
            for path in paths:
                self._context.print(f"{self._headline} {path}")
                if path in orders:
                    self._context.print(f"- shipping order file is {orders[path]}")
        self._orders += orders.items()

    def choose(self, left: Unsent, name: str, octets: int) -> Path:
        """A free path for a packet."""
        bay = choose_bay(self._context.site.bays(left.storage_class), octets)
        return free_name(bay.outgoing / bay_name(name))

    def adopt(self, path: Path, descriptor: int) -> None:
        """Give a packet that is being written to `path` the owner, group and mode of its bay."""
        unsent.bay_of(self._context.site, path).adopt(descriptor)

    def note(self, left: Unsent) -> None:
        """Write down, durably, which packets are about to be written."""
        left.note(self._directory)

    # -- sending

    def deliver(self) -> bool:
        if "fship" not in self._context.options or not self._orders:
            return True
        context = self._context
        context.print("Attempting to forward/deliver generated packets...")
        results = deliver(context.site, [order for _, order in self._orders])
        well = True
        for (path, order), result in zip(self._orders, results, strict=True):
            if result and not order.exists():
                context.print(f"-- Forwarded/delivered packet {path}")
            else:
                well = False
                context.complain(
                    f"{path} was not delivered now; it stays with its order: shipping_server {order}"
                )
        return well


class _Packets:
    """The places of one export's packets, each noted before it is written."""

    def __init__(self, bay: IntoBay, left: Unsent, prefix: str) -> None:
        self._bay = bay
        self.left = left
        self._prefix = prefix

    def place(self, number: int, octets: int) -> Path:
        path = self._bay.choose(self.left, f"{self._prefix}_{number}", octets)
        self.left = self.left.with_packet(path)
        self._bay.note(self.left)
        return path
