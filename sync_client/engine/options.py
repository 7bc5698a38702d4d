"""What a run of the engine is told: the switches of sync_client(8) that the algorithm knows of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.reactor import Clock
from cyrus_sync.sync_client.engine.left_out import LeftOut

if TYPE_CHECKING:
    from cyrus_sync.sync_client.engine.cache import RemoteCache
    from cyrus_sync.sync_client.engine.withheld import Withheld

_log = logging.getLogger(__name__)

RESERVE_LIMIT = 8193
"""GUIDs in one APPLY RESERVE."""

BATCH_BYTES = 256 << 20
"""Octets of new messages in one APPLY MAILBOX."""

UPLOAD_BLOCK = 1024
"""Messages in one APPLY MESSAGE."""


def _silent(line: str) -> None:
    """Verbose lines go nowhere unless asked for."""


def _uncounted(messages: int, octets: int) -> None:
    """Nobody keeps count."""


def _nobody_waits() -> bool:
    return False


def _as_it_is(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that varies between runs. The defaults are those of a one-shot run."""

    server: str = ""
    """Name of the replica; part of the name of the per-user lock."""
    channel: str = ""
    local_only: bool = False
    """``-L``: the LOCAL_ form of every verb that has one."""
    no_copyback: bool = False
    """``-O``: the master is always right; APPLY FORCE once, never a full update."""
    skip_locked: bool = False
    """``-N``: do not wait for the per-user lock, fail with `MailboxLocked`."""
    partition: str = ""
    """``-p``: where mailboxes go on the replica; "" = where they are on the master."""
    batchsize: int = 8192
    """`sync_batchsize`: new (or changed) records in one APPLY MAILBOX."""
    batch_bytes: int = BATCH_BYTES
    """Bytes of new messages in one APPLY MAILBOX; bounds what the replica has to stage."""
    stage_bytes: int = 256 << 20
    """What may be staged before a RESTART is due."""
    stage_messages: int = 8192
    restart_after_group: bool = False
    """RESTART after each group of mailboxes and each user, as a rolling client does."""
    cache: RemoteCache | None = None
    trust_cache: bool = False
    """Take what the cache says instead of asking. Never for one-shot runs."""
    lock_dir: Path | None = None
    """Where the per-user locks between processes are; None = only within this process."""
    skip_dir: Path | None = None
    """``<configdirectory>/sync[/<channel>]``: a file ``skipuser-<userid>`` there holds a user back."""
    spool_dir: Path | None = None
    """For messages that are fetched from the replica while a conflict is settled."""
    concurrency: int = 100
    """Users, or groups of mailboxes, in flight at once."""
    give_way: Callable[[], bool] = _nobody_waits
    """Whether others wait: a mailbox that is sent in parts then ends with `GaveWay` after the present one."""
    report: Callable[[str], None] = _silent
    """Verbose lines (``MAILBOX user.alice``)."""
    notice: Callable[[str], None] = field(default=_log.info)
    """What an administrator should know although it is no error."""
    remark: Callable[[str], None] = field(default=_log.warning)
    """What is not the same on both sides and stays so until somebody acts: not an error of the run, but a
    one-shot run ends with status 1."""
    sent: Callable[[int, int], None] = _uncounted
    """Told of messages that the replica has taken, and of their octets."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Scripts that the replica cannot take."""
    strict: bool = False
    """A name that neither side has is worth a remark: somebody has typed it."""
    external: Callable[[str], str] = _as_it_is
    """A mailbox's name as administrators write it."""
    here: str = "THIS-HOST"
    """This server's name, for what to type on the replica."""
    withheld: Withheld | None = None
    """What the replica lacks because it cannot be read here. Without it such a message fails its mailbox."""
    clock: Clock | None = None
    """An IReactorTime for retries of locks; None = the running reactor."""
