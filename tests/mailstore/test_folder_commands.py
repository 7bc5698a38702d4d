from pathlib import Path

import pytest

from tests.mailstore.conftest import MESSAGE, Site

# -- create


@pytest.mark.covers("mailstore: commands and options", "create")
def test_create_makes_levels_that_are_missing(alice: Site) -> None:
    alice.ok("create", "user/alice/a/b/c")
    assert alice.mailboxes("user.alice") == [f"user.alice{s}" for s in ("", ".Work", ".a", ".a.b", ".a.b.c")]
    assert alice.log() == [("MAILBOX", f"user.alice.{s}") for s in ("a", "a.b", "a.b.c")]


@pytest.mark.covers("mailstore: commands and options", "create", "create --if-missing")
def test_create_wants_the_user_first_and_a_name_that_is_free(alice: Site) -> None:
    assert alice.run("create", "user/bob/Work").status == 67
    assert alice.run("create", "user/alice").status == 65
    assert alice.ok("create", "--if-missing", "user/alice").status == 0
    assert alice.log() == []


@pytest.mark.covers("mailstore: commands and options", "create -p")
def test_rights_and_partition_can_be_given(alice: Site) -> None:
    alice.ok("create", "user/bob", "--acl", "bob=lrs", "--acl", "anyone=p", "--partition", "other")
    mailbox = alice.mailbox("user.bob")
    assert (mailbox.acl, mailbox.partition) == ("bob\tlrs\tanyone\tp\t", "other")
    assert alice.run("create", "user/cy", "--partition", "nowhere").status != 0
    refused = alice.run("create", "user/bob/Work", "--partition", "default")
    assert refused.status == 65 and "user/bob is on partition other" in refused.err
    assert alice.run("create", "user/cy", "--acl", "nonsense").status == 64


@pytest.mark.covers("mailstore: commands and options", "create -f")
def test_thousands_of_users_are_named_in_a_file_or_on_standard_input(alice: Site, tmp_path: Path) -> None:
    listed = tmp_path / "names"
    listed.write_text("\ufeff# who comes on Monday\n\n user/bob \nuser/bob/Work\nuser/alice\n")
    refused = alice.run("create", "user/cy", "-f", str(listed))
    assert refused.status == 1 and "there is a mailbox user/alice already" in refused.err
    assert alice.mailboxes("user.bob") == ["user.bob", "user.bob.Work"]
    assert alice.mailboxes("user.cy") == ["user.cy"]
    alice.ok("create", "--input-file", "-", stdin=b"\xef\xbb\xbfuser/dora\nuser/emil\n")
    assert alice.mailboxes("user.emil") == ["user.emil"] and alice.mailboxes("user.dora") == ["user.dora"]
    assert alice.run("create", "-f", str(tmp_path / "none")).status == 66
    assert alice.run("create").status == 64


# -- rename


@pytest.mark.covers("mailstore: commands and options", "rename")
def test_rename_takes_what_is_below_along(alice: Site) -> None:
    alice.ok("create", "user/alice/Work/a", "user/alice/Work/a/b", "user/alice/Workshop")
    ids = {name: alice.mailbox(name).uniqueid for name in alice.mailboxes("user.alice")}
    alice.log()
    alice.ok("rename", "user/alice/Work", "user/alice/Job")
    assert alice.mailboxes("user.alice") == [
        f"user.alice{s}" for s in ("", ".Job", ".Job.a", ".Job.a.b", ".Workshop")
    ]
    assert alice.mailbox("user.alice.Job.a").uniqueid == ids["user.alice.Work.a"]
    assert ("RENAME", "user.alice.Work.a.b", "user.alice.Job.a.b") in alice.log()


@pytest.mark.covers("mailstore: commands and options", "rename --only")
def test_rename_only_leaves_what_is_below(alice: Site) -> None:
    alice.ok("create", "user/alice/Work/a")
    alice.ok("rename", "--only", "user/alice/Work", "user/alice/Job")
    assert alice.mailboxes("user.alice") == ["user.alice", "user.alice.Job", "user.alice.Work.a"]
    alice.ok("rename", "user/alice/Work", "user/alice/Job")
    assert alice.mailboxes("user.alice") == ["user.alice", "user.alice.Job", "user.alice.Job.a"]


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("user/alice/Work", "user/alice/Work/x", 64),
        ("user/alice/Work", "user/alice/Work", 64),
        ("user/alice", "user/alice/x", 64),
        ("user/alice/Work", "user/bob", 64),
        ("user/alice/None", "user/alice/x", 67),
        ("user/alice/Work", "user/alice/Taken", 65),
    ],
)
def test_rename_refuses_what_makes_no_sense(alice: Site, old: str, new: str, status: int) -> None:
    alice.ok("create", "user/alice/Taken")
    before = alice.mailboxes("user.alice")
    assert alice.run("rename", old, new).status == status
    assert alice.mailboxes("user.alice") == before


def test_nothing_is_renamed_if_one_of_the_new_names_is_taken(alice: Site) -> None:
    alice.ok("create", "user/alice/Work/a", "user/alice/Job/a")
    alice.ok("delete", "user/alice/Job")
    assert alice.run("rename", "user/alice/Work", "user/alice/Job").status == 65
    assert "user.alice.Work" in alice.mailboxes("user.alice")


@pytest.mark.covers("mailstore: commands and options", "rename -p")
def test_a_rename_to_the_same_name_moves_a_user_as_cyradm_has_it(alice: Site) -> None:
    alice.ok("create", "user/bob", "--partition", "other")
    refused = alice.run("rename", "user/alice/Work", "user/alice/Work", "--partition", "other")
    assert refused.status == 64 and "mailstore move alice" in refused.err
    assert alice.run("rename", "user/alice/Work", "user/alice/Job", "--partition", "other").status == 64
    alice.ok("rename", "user/alice", "user/alice", "--partition", "other")
    assert alice.mailbox("user.alice.Work").partition == "other"
    assert list(alice.path.glob("other/users/*/alice")) and not list(alice.path.glob("spool/users/*/alice"))


@pytest.mark.covers("mailstore: commands and options", "rename")
def test_a_user_becomes_another_with_everything(alice: Site) -> None:
    alice.deliver("alice", 2, "-m", "Work")
    alice.ok("subscribe", "alice", "user/alice/Work")
    alice.ok("setquota", "user/alice", "MESSAGE=100")
    alice.ok("sieve", "put", "alice", "main", "--activate", stdin=b"keep;")
    alice.log()
    alice.ok("rename", "user/alice", "user/alicia")
    assert alice.ok("ls", "-1").lines == ["alicia"]
    assert [record.uid for record in alice.records("user.alicia.Work")] == [1, 2]
    assert alice.ok("subscribe", "alicia").lines == ["user/alicia/Work"]
    assert alice.ok("setquota", "user/alicia").lines[1] == "MESSAGE\t3\t100"
    assert alice.ok("sieve", "list", "alicia").lines == ["main\tactive"]
    log = alice.log()
    assert ("RENAME", "user.alice.Work", "user.alicia.Work") in log
    assert log[-2:] == [("UNUSER", "alice"), ("USER", "alicia")]
    assert alice.ok("verify").lines[-1] == "1 owner checked: nothing wrong"


# -- delete, undelete


@pytest.mark.covers("mailstore: commands and options", "delete")
@pytest.mark.covers("imapd.conf", "delete_mode")
def test_delete_sets_aside_and_rename_brings_back(alice: Site) -> None:
    alice.deliver("alice", 1, "-m", "Work")
    alice.ok("delete", "user/alice/Work")
    (_, deleted) = alice.ok("ls", "-1", "--deleted", "alice").lines
    alice.ok("rename", deleted, "user/alice/Back")
    assert len(alice.records("user.alice.Back")) == 1


@pytest.mark.covers("mailstore: commands and options", "delete --immediate", "undelete")
@pytest.mark.covers("imapd.conf", "delete_mode")
@pytest.mark.parametrize(("mode", "argv"), [("", ["--immediate"]), ("delete_mode: immediate\n", [])])
def test_delete_at_once_leaves_no_mailbox_but_undelete_brings_it_back(
    alice: Site, mode: str, argv: list[str]
) -> None:
    alice.conf.write_text(alice.conf.read_text() + mode)
    alice.deliver("alice", 2, "-m", "Work")
    alice.log()
    alice.ok("delete", *argv, "user/alice/Work")
    assert alice.mailboxes("user.alice") == ["user.alice"]
    assert ("UNMAILBOX", "user.alice.Work") in alice.log()
    (line,) = alice.ok("undelete", "alice").lines
    number, name, _, messages, _ = line.split("\t")
    assert (name, messages) == ("user/alice/Work", "2")
    assert alice.ok("undelete", "alice", number, "user/alice/Found").lines == ["user/alice/Found"]
    assert len(alice.records("user.alice.Found")) == 2
    assert alice.run("undelete", "alice", number).status == 64
    assert alice.run("undelete", "bob").status == 65


@pytest.mark.covers("mailstore: commands and options", "delete --delayed")
def test_delayed_on_the_command_line_beats_delete_mode(alice: Site) -> None:
    alice.conf.write_text(alice.conf.read_text() + "delete_mode: immediate\n")
    alice.ok("delete", "--delayed", "user/alice/Work")
    assert alice.mailboxes("user.alice")[1].startswith("DELETED.user.alice.Work.")


@pytest.mark.covers("mailstore: commands and options", "delete -r")
def test_delete_leaves_what_is_below_unless_told_otherwise(alice: Site) -> None:
    alice.ok("create", "user/alice/Work/a", "user/alice/Job/a")
    alice.ok("delete", "user/alice/Work")
    alice.ok("delete", "--recursive", "user/alice/Job")
    assert alice.ok("ls", "-1", "alice").lines == ["user/alice", "user/alice/Work/a"]


@pytest.mark.covers("mailstore: commands and options", "delete")
@pytest.mark.covers("Lines of the action log", "UNUSER")
def test_deleting_an_inbox_deletes_the_user(alice: Site) -> None:
    alice.ok("subscribe", "alice", "user/alice/Work")
    alice.log()
    alice.ok("delete", "user/alice")
    assert alice.log()[-1] == ("UNUSER", "alice")
    assert alice.ok("ls", "-1", "alice").lines == []
    assert alice.run("deliver", "alice", stdin=MESSAGE).status == 67
    assert alice.run("delete", "user/alice").status == 67
    assert alice.run("delete", "user/alice/Nothing").status == 67


# -- setacl, setquota, annotate, subscribe


@pytest.mark.covers("mailstore: commands and options", "setacl")
def test_rights_are_given_changed_taken_and_listed(alice: Site) -> None:
    alice.ok("setacl", "user/alice/Work", "bob", "read")
    alice.ok("setacl", "user/alice/Work", "bob", "+ip")
    alice.ok("setacl", "user/alice/Work", "cy", "all")
    alice.ok("setacl", "user/alice/Work", "cy", "-xa")
    assert alice.ok("setacl", "user/alice/Work").lines == [
        "alice\tlrswipkxtecdan",
        "bob\tlrsip",
        "cy\tlrswipktecdn",
    ]
    alice.ok("setacl", "user/alice/Work", "bob", "none")
    assert alice.mailbox("user.alice.Work").acl == "alice\tlrswipkxtecdan\tcy\tlrswipktecdn\t"
    assert ("MAILBOX", "user.alice.Work") in alice.log()
    assert alice.run("setacl", "user/alice/Work", "bob").status == 64
    assert alice.run("setacl", "user/alice/Work", "bob", "z!").status == 64
    assert alice.run("setacl", "user/alice/Work", "b\tob", "lrs").status == 64


@pytest.mark.covers("mailstore: commands and options", "setquota")
@pytest.mark.covers("Lines of the action log", "QUOTA")
def test_quota_limits_are_set_listed_and_removed(alice: Site) -> None:
    alice.deliver("alice", 2)
    alice.log()
    alice.ok("setquota", "user/alice", "storage=2m", "MESSAGE=10", "MAILBOX=5", "ANNOTATION-STORAGE=1025b")
    assert alice.log() == [("QUOTA", "user.alice")]
    assert alice.ok("setquota", "user/alice").lines == [
        "STORAGE\t1\t2048",
        "MESSAGE\t2\t10",
        "X-ANNOTATION-STORAGE\t0\t2",
        "X-NUM-FOLDERS\t2\t5",
    ]
    alice.ok("setquota", "user/alice", "STORAGE=100000")
    assert alice.ok("setquota", "user/alice").lines[:2] == ["STORAGE\t1\t100000", "MESSAGE\t2\tunlimited"]
    alice.ok("setquota", "user/alice", "none")
    assert alice.run("setquota", "user/alice").status == 1


@pytest.mark.covers("mailstore: commands and options", "setquota")
@pytest.mark.parametrize("limit", ["STORAGE", "NONSENSE=1", "MESSAGE=x", "MESSAGE=-1", "MESSAGE=4294967295"])
def test_a_limit_is_a_resource_and_a_number(alice: Site, limit: str) -> None:
    assert alice.run("setquota", "user/alice", limit).status == 64
    assert alice.run("setquota", "user/bob", "MESSAGE=1").status == 67
    assert alice.log() == []


@pytest.mark.covers("mailstore: commands and options", "annotate")
def test_annotations_of_mailbox_message_and_server(alice: Site) -> None:
    alice.deliver("alice")
    (alice.path / "value").write_bytes(b"from a file \xff")
    alice.log()
    alice.ok("annotate", "user/alice", "/comment", "shared")
    alice.ok("annotate", "user/alice", "/comment", "@-", "--user", "bob", stdin=b"private")
    alice.ok("annotate", "user/alice", "/x", f"@{alice.path}/value", "--uid", "1")
    alice.ok("annotate", "", "/motd", "closed")
    assert alice.log() == [*[("MAILBOX", "user.alice")] * 3, ("ANNOTATION", "")]
    assert alice.ok("annotate", "user/alice").lines == ["/comment\tshared\tshared", "/comment\tbob\tprivate"]
    assert alice.ok("annotate", "user/alice", "--uid", "1").lines == ["/x\tshared\tfrom a file \\xff"]
    assert alice.ok("annotate", "").lines == ["/motd\tshared\tclosed"]
    alice.ok("annotate", "user/alice", "/comment")
    alice.ok("annotate", "", "/motd")
    assert alice.ok("annotate", "user/alice").lines == ["/comment\tbob\tprivate"]
    assert alice.ok("annotate", "").lines == []


@pytest.mark.covers("mailstore: commands and options", "annotate")
@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["user/alice", "comment", "x"], 64),
        (["user/alice", "/a*", "x"], 64),
        (["user/alice", "/x", "y", "--uid", "7"], 65),
        (["", "/x", "y", "--uid", "7"], 64),
        (["user/bob", "/x", "y"], 67),
        (["user/alice", "/x", "@/nowhere/file"], 66),
    ],
)
def test_annotate_refuses_what_makes_no_sense(alice: Site, argv: list[str], status: int) -> None:
    assert alice.run("annotate", *argv).status == status
    assert alice.log() == []


def test_annotate_names_what_is_not_there(alice: Site) -> None:
    alice.deliver("alice")
    for argv, status, said in (
        (["user/alice", "/x"], 1, "user/alice had no annotation /x"),
        (["user/alice", "/x", "--user", "bob"], 1, "user/alice had no annotation /x of bob"),
        (["user/alice", "/x", "--uid", "1"], 1, "message 1 in user/alice had no annotation /x"),
        (["", "/x"], 1, "the server had no annotation /x"),
        (["user/alice", "--uid", "7"], 65, "there is no message 7 in user/alice [user=alice]"),
        (["user/alice/None"], 67, "no such mailbox: user/alice/None"),
    ):
        result = alice.run("annotate", *argv)
        assert result.status == status
        assert result.err.startswith(f"mailstore: {said}")


def test_a_subscription_that_is_not_there_is_named_and_the_others_end(alice: Site) -> None:
    alice.ok("subscribe", "alice", "user/alice/Work")
    result = alice.run("unsubscribe", "alice", "user/alice/Wrok", "user/alice/Work")
    assert (result.status, result.err) == (1, "mailstore: alice was not subscribed to user/alice/Wrok\n")
    assert alice.ok("subscribe", "alice").lines == []


def test_removing_the_limits_of_what_is_no_quota_root_is_said(alice: Site) -> None:
    result = alice.run("setquota", "user/alice/Work", "none")
    assert (result.status, result.err) == (1, "mailstore: user/alice/Work is no quota root\n")


@pytest.mark.covers("mailstore: commands and options", "subscribe")
@pytest.mark.covers("Lines of the action log", "SUB")
def test_subscriptions_come_and_go(alice: Site) -> None:
    alice.ok("subscribe", "alice", "user/alice/Work", "board/not there yet")
    assert alice.ok("subscribe", "alice").lines == ["board/not there yet", "user/alice/Work"]
    alice.ok("unsubscribe", "user/alice", "user/alice/Work")
    assert alice.ok("subscribe", "alice").lines == ["board/not there yet"]
    assert alice.log() == [
        ("SUB", "alice", "user.alice.Work"),
        ("SUB", "alice", "board.not there yet"),
        ("SUB", "alice", "user.alice.Work"),
    ]
    assert alice.run("subscribe", "bob", "user/alice").status == 67


# -- sieve


@pytest.mark.covers("mailstore: commands and options", "sieve")
def test_scripts_are_put_activated_shown_and_deleted(alice: Site) -> None:
    (alice.path / "f").write_text('require "fileinto";\r\nfileinto "x";\r\n')
    alice.ok("sieve", "put", "alice", "main", str(alice.path / "f"))
    alice.ok("sieve", "put", "alice", "Gr\u00fc\u00dfe & mehr", "-", "--activate", stdin=b"discard;")
    assert set(alice.ok("sieve", "list", "alice").lines) == {"main", "Gr\u00fc\u00dfe & mehr\tactive"}
    assert alice.ok("sieve", "show", "alice", "main").out == 'require "fileinto";\r\nfileinto "x";\r\n'
    assert ("MAILBOX", "user.alice.#sieve") in alice.log()
    alice.ok("sieve", "activate", "alice", "main")
    alice.ok("sieve", "delete", "alice", "Gr\u00fc\u00dfe & mehr")
    assert alice.ok("sieve", "list", "alice").lines == ["main\tactive"]
    alice.ok("sieve", "activate", "alice")
    assert alice.ok("sieve", "list", "alice").lines == ["main"]


@pytest.mark.covers("mailstore: commands and options", "sieve")
def test_a_script_with_wrong_syntax_is_refused_with_its_line(alice: Site) -> None:
    result = alice.run("sieve", "put", "alice", "main", stdin=b"keep;\nif {\n")
    assert result.status == 1
    assert result.err.startswith("mailstore: line 2: ")
    assert alice.ok("sieve", "list", "alice").lines == []


@pytest.mark.covers("mailstore: commands and options", "sieve")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("keep;\nrequire_not;\n", "line 2: there is no command require_not"),
        ('require "nonexistent";\n', "line 1: Cyrus 3.6 has no extension 'nonexistent'"),
        ('keep;\n\nfileinto "Work";\n', 'line 3: fileinto needs require "fileinto"'),
        ("if size :over 2G { keep; }", "line 1: the number 2G is too large"),
        ("if true { keep; } else if true { stop; }", "line 1: else takes no test"),
    ],
)
def test_a_script_that_no_cyrus_compiles_is_stored_with_a_warning(
    alice: Site, script: str, reason: str
) -> None:
    result = alice.ok("sieve", "put", "alice", "mine", stdin=script.encode())
    assert "the script mine is stored" in result.err and reason in result.err
    assert alice.ok("sieve", "show", "alice", "mine").out.strip() == script.strip()
    assert alice.ok("sieve", "put", "alice", "mine", stdin=b"keep;").err == ""


@pytest.mark.covers("mailstore: commands and options", "sieve")
@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["put", "alice"], 64),
        (["show", "alice", "none"], 65),
        (["delete", "alice", "none"], 65),
        (["activate", "alice", "none"], 65),
        (["list", "alice", "x", "y"], 64),
        (["put", "alice", "x", "/nowhere/file"], 66),
        (["list", "bob"], 67),
        (["put", "alice", "a/b"], 1),
    ],
)
def test_sieve_refuses_what_makes_no_sense(alice: Site, argv: list[str], status: int) -> None:
    assert alice.run("sieve", *argv, stdin=b"keep;").status == status


# -- passwd


@pytest.mark.covers("mailstore: commands and options", "passwd", "passwd --delete")
def test_a_password_is_stored_as_a_verifier(site: Site) -> None:
    from cyrus_sync.common.wire.sasl.passwd import PasswordFile

    site.ok("passwd", "admin", stdin="s\u00e9cret\n".encode())
    path = site.path / "conf" / "sync_passwd"
    assert b"cret" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert PasswordFile(path).check("admin", "s\u00e9cret")
    assert not PasswordFile(path).check("admin", "secret")
    site.ok("passwd", "--delete", "admin")
    assert not PasswordFile(path).check("admin", "s\u00e9cret")
    again = site.run("passwd", "--delete", "admin")
    assert (again.status, again.err) == (1, "mailstore: admin had no password\n")
    assert site.run("passwd", "admin", stdin=b"\n").status == 64
    assert site.run("passwd", "admin", stdin=b"\xff\n").status == 64
