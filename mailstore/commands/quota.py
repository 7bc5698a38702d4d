"""setquota: set or remove the limits of a quota root.

Resources: STORAGE and X-ANNOTATION-STORAGE in KiB (a suffix k, m or g counts octets), MESSAGE and
X-NUM-FOLDERS as numbers. The limits given replace all others; "none" alone removes the quota root.
Without limits, lists limits and use."""

from __future__ import annotations

import argparse

from cyrus_sync.common.config import values
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.model import QUOTA_RESOURCES, UNLIMITED
from cyrus_sync.common.names import owner_of
from cyrus_sync.mailstore.context import StoreContext

_IN_KIB = ("STORAGE", "X-ANNOTATION-STORAGE")
_OTHER_NAMES = {"ANNOTATION-STORAGE": "X-ANNOTATION-STORAGE", "MAILBOX": "X-NUM-FOLDERS"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", help="a mailbox; its limits hold for all below it")
    parser.add_argument("limits", metavar="RESOURCE=LIMIT", nargs="*")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    root = context.internal(args.root)
    if not args.limits:
        return _list(root, context)
    limits = None if args.limits == ["none"] else dict(_limit(item) for item in args.limits)
    with context.write(owner_of(root)) as writer:
        if limits is not None:
            context.require(writer, root)
        elif writer.quota(root) is None:
            context.warn(f"{context.external(root)} is no quota root")
            return EX_FAILURE
        writer.set_quota(root, limits)
    return EX_OK


def _list(root: str, context: StoreContext) -> int:
    with context.store(readonly=True).read(owner_of(root)) as reader:
        quota = reader.quota(root)
        if quota is None:
            context.warn(f"{context.external(root)} is no quota root")
            return EX_FAILURE
        used = next((usage.used for usage in reader.usage() if usage.root == root), {})
    for resource in QUOTA_RESOURCES:
        use = used.get(resource, 0)
        if resource in _IN_KIB:
            use = (use + 1023) // 1024
        context.print(f"{resource}\t{use}\t{quota.limits.get(resource, 'unlimited')}")
    return 0


def _limit(item: str) -> tuple[str, int]:
    resource, equals, typed = item.partition("=")
    resource = _OTHER_NAMES.get(resource.upper(), resource.upper())
    if not equals or resource not in QUOTA_RESOURCES:
        raise UsageError(
            f"setquota: '{item}' is not RESOURCE=LIMIT (resources: {', '.join(QUOTA_RESOURCES)})"
        )
    try:
        if resource in _IN_KIB:
            limit = (values.size(typed, "k") + 1023) // 1024
        else:
            limit = values.integer(typed)
    except ValueError as error:
        raise UsageError(f"setquota: {resource}: {error}") from None
    if not 0 <= limit < UNLIMITED:
        raise UsageError(f"setquota: {resource}: a limit is from 0 to {UNLIMITED - 1}")
    return resource, limit
