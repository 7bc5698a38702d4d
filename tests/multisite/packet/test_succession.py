"""The keys that a replica has had: who knows some can follow to the present ones, and nowhere else."""

from __future__ import annotations

import pytest

from cyrus_sync.multisite.packet import BadKeys, PacketForged, SecretKeys
from cyrus_sync.multisite.packet.invitation import Invitation
from cyrus_sync.multisite.packet.succession import MOST_LINKS, Link, Succession

BIRTH, SECOND, THIRD, OTHER = (SecretKeys.generate() for _ in range(4))
FAMILY, REPLICA = "family", "f" * 32


@pytest.fixture
def history() -> Succession:
    born = Succession.begun(BIRTH.public)
    second = born.extended(FAMILY, REPLICA, 5, BIRTH, SECOND.public)
    return second.extended(FAMILY, REPLICA, 9, SECOND, THIRD.public)


def test_it_is_read_as_it_was_written(history: Succession) -> None:
    assert Succession.parse(history.text()) == history


def test_each_operation_is_signed_with_the_keys_of_its_time(history: Succession) -> None:
    assert [history.at(number) for number in (1, 4, 5, 8, 9, 99)] == [
        *[BIRTH.public] * 2,
        *[SECOND.public] * 2,
        *[THIRD.public] * 2,
    ]


def test_who_knows_any_of_it_can_follow_the_rest(history: Succession) -> None:
    for known in range(1, 4):
        assert history.continues(Succession(history.links[:known]), FAMILY, REPLICA)


def test_keys_that_branch_off_are_not_believed(history: Succession) -> None:
    born = Succession.begun(BIRTH.public)
    other = born.extended(FAMILY, REPLICA, 5, BIRTH, OTHER.public)
    assert other.continues(born, FAMILY, REPLICA), "whoever has the secret of the birth, first come"
    assert not other.continues(history, FAMILY, REPLICA)
    assert not Succession.begun(OTHER.public).continues(history, FAMILY, REPLICA)


def test_an_invented_past_is_no_extension(history: Succession) -> None:
    invented = Succession((Link(0, OTHER.public), history.links[-1]._replace(first=10**9)))
    assert invented.continues(history, FAMILY, REPLICA) and not invented.extends(history, FAMILY, REPLICA)
    assert invented.at(50) == OTHER.public, "that is what it would be good for"
    assert history.extends(Succession(history.links[:1]), FAMILY, REPLICA)


@pytest.mark.parametrize(("family", "replica"), [("other", REPLICA), (FAMILY, "0" * 32)])
def test_a_signature_is_for_one_replica_of_one_family(history: Succession, family: str, replica: str) -> None:
    assert not history.continues(Succession.begun(BIRTH.public), family, replica)


def test_nobody_else_can_extend_it(history: Succession) -> None:
    for secret, first in ((OTHER, 20), (BIRTH, 20), (THIRD, 9)):
        with pytest.raises(BadKeys):
            history.extended(FAMILY, REPLICA, first, secret, OTHER.public)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.replace(" ", "  "),
        lambda text: text.split(" ")[1],
        lambda text: " ".join(reversed(text.split(" "))),
        lambda text: text.replace("5:", "05:", 1),
        lambda text: text[:-1],
        lambda text: text.replace("9:", f"{'9' * 30}:", 1),
        lambda text: " ".join([text.split(" ")[0]] * (MOST_LINKS + 1)),
    ],
)
def test_other_texts_are_refused(history: Succession, change: object) -> None:
    assert callable(change)
    with pytest.raises(BadKeys):
        Succession.parse(change(history.text()))


def test_a_fingerprint_is_compared_as_people_type_it() -> None:
    public = BIRTH.public
    typed = public.fingerprint()
    assert public.has_fingerprint(typed) and public.has_fingerprint(typed.replace(" ", "").upper())
    assert not public.has_fingerprint(typed[:-1]) and not public.has_fingerprint("")
    assert not OTHER.public.has_fingerprint(typed)


# -- invitations


def test_an_invitation_brings_the_keys_of_a_birth() -> None:
    assert Invitation.parse(Invitation(BIRTH, None).text()).birth == BIRTH


def test_a_passphrase_hides_them_and_proves_the_maker() -> None:
    text = Invitation(BIRTH, OTHER.public).sealed("a phrase of words")
    found = Invitation.parse(text, "a phrase of words")
    assert (found.birth, found.maker) == (BIRTH, OTHER.public)
    with pytest.raises(PacketForged):
        Invitation.parse(text, "another phrase of words")
    with pytest.raises(BadKeys, match="-secret"):
        Invitation.parse(text)
    with pytest.raises(BadKeys, match="12 characters"):
        Invitation(BIRTH, OTHER.public).sealed("short")


@pytest.mark.parametrize("text", ["", "clear", "clear !", "sealed a b", "open x", "clear " + "A" * 87 + "="])
def test_what_is_no_invitation_is_refused(text: str) -> None:
    with pytest.raises(BadKeys):
        Invitation.parse(text, "a phrase of words")
