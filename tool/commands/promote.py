"""promote: make the store here the master, after its master has died or was drained.

From then on the store takes changes that are made here (deliver, an IMAP server, …), whatever replicaonly
says, and sync_server refuses what an old master sends, so that one which comes back undoes nothing. It is
refused as long as the last word of a master is that something waits there which has not come here, or no
master has said anything (one of this package says it before and after each run; a real Cyrus never does); and
as long as an old master answers that was not drained (sync_client --drain): two masters are worse than none.
--force does it all the same, and prints by name what may be lost. Then point mail and users at this server,
and its sync_client at the next replica."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from cyrus_sync.common.config import Config
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, ConfigError, UsageError
from cyrus_sync.common.role import Role
from cyrus_sync.common.stores import role_of
from cyrus_sync.common.waiting import Waiting, WaitingFile
from cyrus_sync.spool.whose import whose_mail

PORTS = {"csync": 2005, "imap": 143, "imaps": 993, "lmtp": 24, "smtp": 25}
"""Where a mail server answers that is alive."""
SECONDS = 3.0
"""How long an old master may take to answer."""

Answers = Callable[[str, int], bool]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--old-master",
        metavar="HOST[:PORT]",
        action="append",
        default=[],
        help="who must not answer any more, besides the masters that are known (may be repeated)",
    )
    parser.add_argument("--force", action="store_true", help="all the same; prints what may be lost")


def run(args: argparse.Namespace) -> int:
    cfg = Config.load(args.config, program="mailstore")
    if whose_mail(cfg).is_cyrus:
        raise ConfigError(
            f"{cfg.path}: the mail here is that of a real Cyrus: it is the master as soon as its services"
            " take mail (replicaonly: no, since 3.12) and nobody replicates to it any more"
        )
    role = role_of(cfg)
    standing = role.standing()
    if standing is not None and standing.role is Role.MASTER:
        print(f"this server is the master already, {standing.words}")
        return EX_OK
    words_file = WaitingFile(cfg.configdirectory / "sync")
    words = [word for word in words_file.all() if word.master != cfg.servername]
    drained_here = standing is not None and standing.role is Role.DRAINING
    doubts = [] if drained_here and not words else list(lacking(words))
    doubts += alive(words, [_address(one) for one in args.old_master], _answers)
    for doubt in doubts:
        print(doubt)
    if doubts and not args.force:
        print("not promoted: see to that first, or say --force")
        return EX_FAILURE
    role.become(Role.MASTER, "cyrus-sync promote --force" if doubts else "cyrus-sync promote", time.time())
    words_file.path.unlink(missing_ok=True)
    print(f"{cfg.servername} is the master now: it takes changes, and nothing that an old master sends")
    if doubts:
        print(
            "what did not come may still be on the old master's disk: there, cyrus-sync rescue brings it here"
        )
    return EX_OK


def lacking(words: Sequence[Waiting]) -> Iterator[str]:
    """What the masters' last words leave to be wished for."""
    if not words:
        yield (
            "no master has said what waits there (a real Cyrus never does): whether everything is here is not"
            " known"
        )
    for word in words:
        if word.waiting:
            names = ", ".join(word.owners) or "not known by name"
            more = " and others" if len(word.owners) < word.waiting and word.owners else ""
            yield (
                f"{_named(word)} had changes of at least {counted(word.waiting, 'owner')} that were not taken"
                f" when it spoke last, {_time(word.at)}: {names}{more}"
            )


def alive(words: Sequence[Waiting], given: Sequence[tuple[str, int]], answers: Answers) -> list[str]:
    """The old masters that answer and were not drained."""
    hosts = dict.fromkeys(word.master for word in words if not word.drained)
    places = [*given, *((host, port) for host in hosts for port in PORTS.values())]
    found: dict[str, int] = {}
    for host, port in places:
        if host not in found and answers(host, port):
            found[host] = port
    return [
        f"{host} answers at port {port}: it may still take mail. Drain it (there: sync_client --drain), or"
        " stop it"
        for host, port in found.items()
    ]


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, PORTS["csync"]
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"promote: --old-master: '{text}' is neither HOST nor HOST:PORT")
    return host.strip("[]"), int(port)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError:
        return False
    return True


def _named(word: Waiting) -> str:
    return word.master + (f" (channel {word.channel})" if word.channel else "")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
