"""Quota limits (RFC 9208): those of the roots in which folders are become those of our quota roots.

A Cyrus has a root at a mailbox, and it holds for all below that has none of its own; so it is here. A Dovecot
has roots with names, each for all folders of a namespace: one folder tells them, and our one quota root for
them is the highest mailbox of their owner, whether it is there or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import QUOTA_RESOURCES, UNLIMITED
from cyrus_sync.common.names import Owner, parent_of, root_of
from cyrus_sync.common.stores.mailstore import MailStore, MailWriter
from cyrus_sync.pull.answers import octets, parsed
from cyrus_sync.pull.errors import Refused
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session

Roots = Mapping[bytes, Mapping[str, int]]
"""Limits by resource, of roots by their names at the server."""


class Limits:
    """Of all that one user sees. What is left out is added to `done`."""

    def __init__(self, session: Session, store: MailStore, done: Pulled) -> None:
        self._session = session
        self._store = store
        self._done = done
        self._his: Roots | None = None

    def bring(self, owner: Owner, folders: Sequence[Folder], *, his: bool) -> None:
        """The limits of `folders`, all of `owner`, with those above others first. `his`: the user's own."""
        if not self._session.offers("QUOTA") or not folders:
            return
        if self._session.is_dovecot:
            told = {root_of(owner): self._roots(folders[0].wire)}
        else:
            told = {folder.name: self._roots(folder.wire) for folder in folders}
        known = {name: roots for name, roots in told.items() if roots is not None}
        if self._session.is_dovecot and not his:
            known = {name: self._not_his(roots) for name, roots in known.items()}
        self._keep(owner, known, wanted_roots(known), alone=self._session.is_dovecot and bool(known))

    def _not_his(self, roots: Roots) -> Roots:
        """A Dovecot tells the user's own roots of shared folders, too: they do not hold for those."""
        if self._his is None:
            self._his = self._roots(b"INBOX") or {}
        return {root: limits for root, limits in roots.items() if root not in self._his}

    def _roots(self, wire: bytes) -> Roots | None:
        """The roots of a mailbox, None where they are not told."""
        try:
            answers = self._session.command("GETQUOTAROOT", wire)
        except Refused:
            return None
        limits = {octets(words[0]): dict(_resources(words[1:])) for words in parsed(answers.get("QUOTA", []))}
        for words in parsed(answers.get("QUOTAROOT", [])):
            return {octets(root): limits.get(octets(root), {}) for root in words[1:]}
        return None

    def _keep(
        self, owner: Owner, told: Mapping[str, Roots], wanted: Mapping[str, dict[str, int]], *, alone: bool
    ) -> None:
        """`alone`: of this owner there are no other quota roots than those wanted."""
        with self._store.read(owner) as reader:
            there = {quota.root: quota.limits for quota in reader.quotas()}
        changes: dict[str, dict[str, int] | None] = {
            root: limits for root, limits in wanted.items() if there.get(root) != limits
        }
        changes.update({root: None for root in there if (alone or root in told) and root not in wanted})
        if not changes:
            return
        with self._store.write(owner, timeout=LOCK_TIMEOUT) as writer:
            for root, limits in changes.items():
                self._set(writer, root, limits)

    def _set(self, writer: MailWriter, root: str, limits: dict[str, int] | None) -> None:
        try:
            with writer.savepoint():
                writer.set_quota(root, limits)
            self._done.besides += 1
        except ReplyError as error:
            self._done.troubles.append(f"quota limits are left out: {error}")


def wanted_roots(told: Mapping[str, Roots]) -> dict[str, dict[str, int]]:
    """Limits by quota root: where a mailbox has other roots than the nearest one above. The lowest, where
    several roots limit one resource.

    >>> wanted_roots({"user.a": {b"u": {"STORAGE": 9}}, "user.a.b": {b"u": {"STORAGE": 9}}})
    {'user.a': {'STORAGE': 9}}
    """
    found: dict[str, dict[str, int]] = {}
    for name, roots in told.items():
        above = parent_of(name)
        while above and above not in told:
            above = parent_of(above)
        if roots.keys() == (told[above].keys() if above else set()):
            continue
        limits: dict[str, int] = {}
        for one in roots.values():
            for resource, limit in one.items():
                limits[resource] = min(limit, limits.get(resource, limit))
        if limits or above:
            found[name] = limits
    return found


def _resources(words: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Names and limits out of ``(STORAGE used limit ...)``, as far as a quota root here can have them."""
    told = words[0] if words else ()
    for name, limit in zip(told[::3], told[2::3], strict=False):
        resource = octets(name).decode("ascii", "replace").upper()
        if isinstance(limit, int) and resource in QUOTA_RESOURCES and 0 <= limit < UNLIMITED:
            yield resource, limit
