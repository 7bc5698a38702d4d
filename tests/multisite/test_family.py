"""The family file, and finding replicas in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.errors import EX_CONFIG
from cyrus_sync.multisite.errors import MultisiteError, NoFamily, UnknownReplica
from cyrus_sync.multisite.family import FILE, Family, Replica, check_replica_name, replica_from
from cyrus_sync.multisite.packet import SecretKeys

A, B, C = "a" * 32, "b" * 32, "c" * 32
KEYS = SecretKeys.generate().public.text()


@pytest.fixture
def family() -> Family:
    return Family(
        "fa-1",
        "mail",
        A,
        {
            A: Replica(A, "boston", "b.example.org", version=1, creator=A),
            B: Replica(B, "sanfran", incarnation=1_700_000_000, keys=KEYS, wanted="boston"),
            C: Replica(C, "old", removed=True),
        },
        {B: 7},
    )


def test_what_is_saved_is_loaded(family: Family, tmp_path: Path) -> None:
    family.save(tmp_path / "made")
    assert Family.load(tmp_path / "made") == family
    assert [path.name for path in (tmp_path / "made").iterdir()] == [FILE]
    assert (tmp_path / "made" / FILE).stat().st_mode & 0o777 == 0o600


def test_without_a_file_there_is_no_family(tmp_path: Path) -> None:
    with pytest.raises(NoFamily) as missing:
        Family.load(tmp_path)
    assert missing.value.exit_status == EX_CONFIG and "multitool mkfamily" in str(missing.value)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"a: [", b"\xff\xfe", b"family: x\nname: y\nself: z\n",
        b"family: x\nname: y\nself: z\nreplicas: 5\n",
        b"family: x\nname: y\nself: z\nreplicas: [{id: short, name: n}]\n",
        b"family: x\nname: y\nself: z\nreplicas: []\nrestoring: {a: soon}\n",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(MultisiteError, match=r"family\.yaml|not a replica"):
        Family.load(tmp_path)


@pytest.mark.parametrize("selector", ["sanfran", "sanfran@mail", "sanfran@\\mail", "sanfran@/mail", B])
def test_a_replica_is_found_by_its_selectors(family: Family, selector: str) -> None:
    assert family.find(selector).id == B
    assert family.find(f"replica:{selector}").id == B


@pytest.mark.parametrize("selector", ["nobody", "old", "sanfran@other", ""])
def test_nobody_else_is_found(family: Family, selector: str) -> None:
    with pytest.raises(UnknownReplica):
        family.find(selector)


def test_names_for_people(family: Family) -> None:
    assert family.name_of(B) == "sanfran" and family.name_of("d" * 32) == "d" * 32
    assert family.selector(B) == "sanfran@mail" and family.myself.name == "boston"
    assert [one.name for one in family.living()] == ["boston", "sanfran"]
    assert family.named("old") is None and family.named("boston", but=A) is None


def test_a_replica_travels_under_the_name_that_it_should_have(family: Family) -> None:
    import json

    told = replica_from(json.loads(family.find("sanfran").text()))
    assert (told.name, told.wanted) == ("boston", "")


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a@b", "ä", "x" * 65])
def test_names_that_no_replica_may_have(name: str) -> None:
    with pytest.raises(MultisiteError):
        check_replica_name(name)


@pytest.mark.parametrize(
    "values",
    [None, [], {}, {"id": A}, {"id": A, "name": "x", "version": "1"}, {"id": "A" * 32, "name": "x"},
     {"id": A, "name": "x", "removed": 1}, {"id": A, "name": "x", "host": 5}],
)  # fmt: skip
def test_what_is_no_replica(values: object) -> None:
    with pytest.raises(MultisiteError, match="not a replica"):
        replica_from(values)
