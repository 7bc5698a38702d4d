"""Asking a sibling over the line what it has (``-actual``)."""

from __future__ import annotations

from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.standing import Standing, parse_standing
from cyrus_sync.shipping.question import ask
from cyrus_sync.shipping.site import Site

QUESTION = b"epochs"


def ask_standing(site: Site, family: Family, sibling: Replica) -> Standing:
    """Where the sibling stands, by its own answer. Raises `ShippingError`, and `MultisiteError` if it has no
    host or another replica answers."""
    if not sibling.host:
        raise MultisiteError(f"{sibling.name} has no host to ask (multitool chreplica -host)")
    found = parse_standing(ask(site, sibling.host, QUESTION))
    if (found.family, found.replica) != (family.id, sibling.id):
        raise MultisiteError(f"{sibling.host} is {found.name!r}, and not {sibling.name!r} of this family")
    return found
