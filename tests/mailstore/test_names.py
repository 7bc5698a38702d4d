"""Names on the command line: what ``ls`` prints is what every command takes, and means that mailbox only."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner, inbox_of, owner_of
from cyrus_sync.common.stores import open_store
from tests.mailstore.conftest import MESSAGE, Site

ALICES = ["", ".bob", ".bob@example^org", ".^", ".^^", ".~", ".R&D", ".50%", '.a"b', ".a\\b", ".{5}", ".a|b"]
KEPT = [
    *(f"user.alice{folder}" for folder in ALICES),
    *(f"user.alice.{folder}" for folder in ("&APw", "-x", "#sieve-", "INBOX", " x ", "NIL")),
    *("example.org!user.alice", "example.org!user.alice.bob", "example.org!user.alice.Yahoo!"),
    *("user.alice@example^org", "user.alice@example^org.bob", "user.user^x", "user.^foo", "user.foo^"),
    *("internal!user.zoe", "example.org!user.a@b", "example.org!user.a!b", "user.shared:x", "user.-x"),
    *("sales", "sales.x@y", "sales@example^org", "example.org!sales", "example.org!Hey!x", "user^alice"),
    *("DELETED^x", "mailbox:x", "-y", "DELETED.user.alice.bob.6B013001", "DELETED.sales.6B013001"),
    *("user.^^", "example.org!DELETED.user.alice.bob.6B013001"),
    "DELETED.user.alice." + "y" * 990 + ".6B013001",
    "DELETED.user.alice." + "y" * 481 + ".6B013002",
]


def fill(site: Site) -> None:
    """A store with every one of `KEPT`, as a master would have sent it."""
    store = open_store(site.config())
    for name in KEPT:
        owner = owner_of(name)
        with store.write(owner) as writer:
            if owner.kind == "user" and writer.mailbox(inbox_of(owner.name)) is None:
                writer.create(inbox_of(owner.name))
            if writer.mailbox(name) is None:
                writer.create(name)
    store.close()


def everything(site: Site) -> set[str]:
    store = open_store(site.config(), readonly=True)
    found = set()
    for owner in store.owners():
        with store.read(owner) as reader:
            found |= {state.name for state in reader.mailboxes() if not state.tombstone}
    store.close()
    return found


@pytest.mark.parametrize(
    "extra",
    ["", "virtdomains: off\n", "virtdomains: yes\ndefaultdomain: example.org\n", "unixhierarchysep: no\n"],
)
def test_every_mailbox_is_deleted_by_the_name_that_ls_prints_and_it_alone(tmp_path: Path, extra: str) -> None:
    site = Site(tmp_path, extra)
    fill(site)
    left = everything(site)
    assert left >= set(KEPT)
    for owner in site.ok("ls", "-1").lines:
        printed = site.ok("ls", "-1", "--deleted", owner).lines
        for name in sorted(printed, key=len, reverse=True):
            before = everything(site)
            site.ok("delete", "--immediate", name)
            gone = before - everything(site)
            assert len(gone) == 1, (owner, name, gone)
            left -= gone
    assert not left and site.ok("ls", "-1").lines == []


def test_a_folder_with_an_at_sign_is_not_another_users(site: Site) -> None:
    site.ok("create", "user/alice", "user/alice/bob@example.org", "user/alice@example.org")
    site.ok("create", "user/alice@example.org/bob")
    site.ok("delete", "--immediate", "user/alice/bob@example.org")
    assert site.mailboxes("user.alice") == ["user.alice"]
    assert site.ok("ls", "-1", "alice@example.org").lines == [
        "user/alice@example.org",
        "user/alice@example.org/bob",
    ]


def test_who_writes_the_domain_at_the_end_is_told_where_it_stands(site: Site) -> None:
    site.ok("create", "user/joe@example.org", "user/joe@example.org/Work")
    for command in ("create", "delete", "show"):
        refused = site.run(command, "user/joe/Work@example.org", *(["1"] if command == "show" else []))
        assert refused.status != 0 and "user/joe@example.org/Work" in refused.err, refused.err


# -- names that are born


REFUSED = {
    "R&D": "an & is written &-",
    "50%": "a % stands in no name",
    'a"b': 'a " stands',
    "a\\b": "a \\ stands",
    "{5}": "a { stands",
    "a|b": "a | stands",
    "a;b": "a ; stands",
    "a<b": "a < stands",
    "a`b": "a ` stands",
    "Hey!you": "a ! stands only in names of a domain",
    "&AGE-": "modified UTF-7",
    "&APw-&APw-": "modified UTF-7",
    "&2AA-": "an & is written &-",
    "x\udcff": "UTF-8",
    "x\ty": "control characters",
    "x\x7f": "control characters",
    "": "has no name",
    "a//b": "has no name",
    "a^b": "two hex digits",
    "y" * 482: "longer than 490",
}


@pytest.mark.parametrize("folder", REFUSED)
def test_a_name_that_no_cyrus_creates_is_refused_with_the_reason(alice: Site, folder: str) -> None:
    for command in (("create",), ("rename", "user/alice/Work")):
        refused = alice.run(*command, f"user/alice/{folder}")
        assert refused.status != 0 and REFUSED[folder] in refused.err, refused.err
    assert alice.mailboxes("user.alice") == ["user.alice", "user.alice.Work"]


@pytest.mark.parametrize("name", ["user", "user/anyone", "user/anonymous", "user/%x", "$x", "~x", "user/a!b"])
def test_nobody_is_called_what_cyrus_keeps_for_itself(site: Site, name: str) -> None:
    assert site.run("create", name).status != 0
    assert everything(site) == set()


@pytest.mark.covers("imapd.conf", "virtdomains")
def test_with_virtdomains_off_nobody_new_has_a_domain(tmp_path: Path) -> None:
    site = Site(tmp_path, "virtdomains: off\n")
    assert "virtdomains" in site.run("create", "user/joe^@example.org").err
    site.ok("create", "user/joe@example.org")
    assert everything(site) == {"user.joe@example^org"}
    assert site.ok("deliver", "joe@example.org", stdin=MESSAGE).lines == ["user/joe@example.org 1"]
    assert site.mailbox("user.joe@example^org").acl.startswith("joe@example.org\t")


def test_names_that_cyrus_has_are_taken(alice: Site) -> None:
    names = ["Yahoo", ".", "..", "~", "~x", "a b", "5*", "#x", "&-", "Entwürfe", "y" * 479, "b@ex.org"]
    alice.ok("create", *(f"user/alice/{name}" for name in names), "user/.foo", "user/foo.", "user/..")
    alice.ok("create", "user/jim@example.org", "user/jim@example.org/Yahoo!", "user/jim@example.org/Yahoo!/x")
    assert alice.mailboxes("example.org!user.jim")[1:] == [
        "example.org!user.jim.Yahoo!",
        "example.org!user.jim.Yahoo!.x",
    ]
    alice.ok("delete", "user/alice/" + "y" * 479)
    (gone,) = (name for name in alice.mailboxes("user.alice") if name.startswith("DELETED."))
    assert len(gone) == 490 + len("DELETED.") + len(".6B013001")
    alice.ok("rename", gone.replace(".", "/"), "user/alice/back")
    assert "user.alice.back" in alice.mailboxes("user.alice")


def test_no_owner_leads_out_of_the_partition(site: Site) -> None:
    site.ok("create", "user/..", "user/.", "user/~", "..", ".")
    inside = {path.relative_to(site.path).parts[0] for path in site.path.rglob("index.sqlite")}
    assert inside <= {"spool", "conf"}
    assert len(list((site.path / "spool").rglob("index.sqlite"))) == 5


def test_an_undeleted_mailbox_may_be_called_as_before_but_gets_no_new_odd_name(site: Site) -> None:
    fill(site)
    site.ok("delete", "--immediate", "user/alice/R&D")
    number = site.ok("undelete", "alice").lines[0].split("\t")[0]
    assert "written &-" in site.run("undelete", "alice", number, "user/alice/S&M").err
    assert site.ok("undelete", "alice", number).lines == ["user/alice/R&D"]


def test_imported_folders_get_names_that_a_cyrus_would_create(site: Site, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("R&D", "50%", "Entwürfe", "Hey!you"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "1.eml").write_bytes(MESSAGE)
    site.ok("create", "user/bob")
    done = site.run("import", "bob", str(tree))
    names = {"user.bob", "user.bob.R&-D", "user.bob.50&,wU-", "user.bob.Entw&APw-rfe", "user.bob.Hey&,wE-you"}
    assert everything(site) == names
    assert done.err.count("a Cyrus would create no mailbox called") == 3, done.err
    again = site.ok("import", "bob", str(tree))
    assert "0 messages imported" in again.out and everything(site) == names


def test_a_kept_name_gets_what_is_imported_for_it(site: Site, tmp_path: Path) -> None:
    fill(site)
    (tmp_path / "tree" / "50%").mkdir(parents=True)
    (tmp_path / "tree" / "50%" / "1.eml").write_bytes(MESSAGE)
    site.ok("import", "alice", str(tmp_path / "tree"))
    assert len(site.records("user.alice.50%")) == 1


def test_a_shared_mailbox_is_no_user(site: Site) -> None:
    site.ok("create", "user/shared:x", "board")
    assert sorted(site.ok("ls", "-1").lines) == ["shared:board", "shared^3Ax"]
    assert site.ok("deliver", "shared^3Ax", stdin=MESSAGE).lines == ["user/shared:x 1"]
    assert site.run("deliver", "shared:board", stdin=MESSAGE).status != 0
    assert Owner("user", "shared:x") == owner_of("user.shared:x")


def test_mail_in_a_folder_called_sieve_is_no_script(alice: Site) -> None:
    alice.ok("create", "user/alice/#sieve")
    alice.ok("deliver", "alice", "-m", "#sieve", stdin=b"Subject: evil\r\n\r\ndiscard;\r\n")
    assert alice.ok("sieve", "list", "alice").lines == []
    refused = alice.run("sieve", "put", "alice", "good", stdin=b"keep;\n")
    assert refused.status != 0 and "mail folder" in refused.err
