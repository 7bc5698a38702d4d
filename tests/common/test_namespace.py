"""What a person reads is what a person may type, and means that mailbox only."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.names import (
    BadName,
    Owner,
    check_mailbox_name,
    check_userid,
    deleted_name,
    in_domain,
    inbox_of,
    owner_of,
)
from cyrus_sync.common.namespace import Namespace

NAMESPACES = [
    Namespace(slashes=slashes, virtdomains=virtdomains, defaultdomain=defaultdomain)
    for slashes, virtdomains, defaultdomain in itertools.product(
        (True, False), (True, False), ("internal", "example.org")
    )
]
_ODD = r"""
user DELETED bob@example^org @ ~ ^ ^^ &- &APw- a@b #sieve INBOX 50% R&D Hey -x #x user^x {5} a|b * NIL a"b
shared:x DELETED^x server: mailbox:x user:x 6B013001 a\b example^org ^40 ^@x 40 2E
"""
_LEVEL = st.one_of(
    st.sampled_from(_ODD.split()),
    st.text("ab@^&~ %!*#:-.40E2/\"\\{}'`$,", min_size=1, max_size=6).map(lambda t: t.replace(".", "^")),
)
_DOMAIN = st.sampled_from(["", "", "example.org", "internal", "a", "x y", "ex!", "-", "a.b.c"])


@st.composite
def kept_names(draw: st.DrawFn) -> str:
    """Internal names that a store may hold: of users and shared ones, alive and deleted."""
    levels = draw(st.lists(_LEVEL, min_size=1, max_size=4))
    if draw(st.booleans()):
        levels.insert(0, "user")
    name = in_domain(draw(_DOMAIN), ".".join(levels))
    if draw(st.booleans()):
        name = deleted_name(name, draw(st.integers(1, 2**36)))
    try:
        return check_mailbox_name(name)
    except BadName:
        return "user.a"


@pytest.mark.parametrize("names", NAMESPACES)
@given(name=kept_names())
def test_every_mailbox_is_read_as_it_is_printed(names: Namespace, name: str) -> None:
    printed = names.external(name)
    assert names.internal(printed) == name, printed
    assert printed == printed.strip() and not printed.startswith(("-", "#"))


@pytest.mark.parametrize("names", NAMESPACES)
@given(name=kept_names())
def test_every_owner_is_read_as_it_is_printed(names: Namespace, name: str) -> None:
    owner = owner_of(name)
    assert names.owner(names.owner_name(owner)) == owner
    if owner.kind == "user":
        assert check_userid(owner.name) == owner.name
        assert owner_of(inbox_of(owner.name)) == owner
        assert names.userid(names.user(owner.name)) == owner.name
        assert names.owner(names.external(inbox_of(owner.name))) == owner


@pytest.mark.parametrize("names", NAMESPACES)
@given(one=kept_names(), two=kept_names())
def test_two_mailboxes_are_never_printed_alike(names: Namespace, one: str, two: str) -> None:
    assert (names.external(one) == names.external(two)) == (one == two)


@pytest.mark.covers("imapd.conf", "virtdomains")
@pytest.mark.parametrize(
    ("typed", "internal"),
    [
        ("user/alice/bob@example.org", "user.alice.bob@example^org"),
        ("user/alice@example.org", "example.org!user.alice"),
        ("user/alice@example.org/bob", "example.org!user.alice.bob"),
        ("user/a@b@example.org", "example.org!user.a@b"),
        ("user/alice@internal/bob", "user.alice.bob"),
        ("user/alice^@internal/bob", "internal!user.alice.bob"),
        ("sales@example.org/old", "example.org!sales.old"),
        ("user/jim@example.org/Yahoo!", "example.org!user.jim.Yahoo!"),
        ("DELETED/user/joe@example.org/x/6B013001", "example.org!DELETED.user.joe.x.6B013001"),
        ("user/zoe.b/..", "user.zoe^b.^^"),
        ("user/al/Entwürfe", "user.al.Entw&APw-rfe"),
    ],
)
def test_a_domain_is_where_the_userid_is(typed: str, internal: str) -> None:
    assert Namespace().internal(typed) == internal


@pytest.mark.covers("imapd.conf", "virtdomains")
def test_without_virtdomains_nothing_is_split_unless_it_is_marked() -> None:
    names = Namespace(virtdomains=False)
    assert names.internal("user/alice@example.org/x") == "user.alice@example^org.x"
    assert names.external("example.org!user.alice.x") == "user/alice^@example.org/x"
    assert names.owner("alice@example.org") == owner_of("user.alice@example^org")
    assert names.owner("alice^@example.org") == owner_of("example.org!user.alice")


def test_without_unixhierarchysep_dots_part_levels_and_a_domain_has_none() -> None:
    names = Namespace(slashes=False)
    assert names.internal("user.zoe^b@example^org.Work") == "example.org!user.zoe^b.Work"
    assert names.external("user.joe@example^org.Work") == "user.joe/40example^org.Work"
    assert names.owner("zoe.b@example.org") == Owner("user", "zoe.b@example.org")


@pytest.mark.parametrize(
    "typed",
    ["", "user//x", "user/jim/", "/user", "user/jim/Hey!you", "Hey!you", "user/a^b", "a/\udcff", "user/bob@"],
)
def test_what_is_no_name_is_refused(typed: str) -> None:
    with pytest.raises(BadName):
        Namespace().internal(typed)


def test_a_user_whose_name_has_an_at_sign_is_not_the_one_in_a_domain() -> None:
    assert owner_of("user.joe@example^org") != owner_of("example.org!user.joe")
    assert inbox_of(owner_of("user.joe@example^org").name) == "user.joe@example^org"
