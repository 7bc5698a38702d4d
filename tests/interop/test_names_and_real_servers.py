"""Names that a real server has, and those that it refuses: by IMAP, and by csync in both directions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cyrus_sync.common.names import BadName, Owner, owner_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.newnames import check_new_name

from .csync import differences, state_of
from .cyrus import Cyrus
from .fill import message
from .imap import quote
from .ours import Ours

JANUARY = 1704103200


@pytest.fixture(scope="module")
def domains(real_cyrus: None) -> Iterator[Cyrus]:
    """A real server with virtual domains."""
    with Cyrus.running("domains", {"virtdomains": "userid", "sync_log": "0"}) as cyrus:
        yield cyrus


TYPED = [
    *("R&D", "50%", "5*", 'a"b', "a\\b", "{5}", "a|b", "a;b", "a<b", "a`b", "&-", "&AGE-", "&2ADcAA-", "&"),
    *("&APw", "&APw-&APw-", "&APx-", "x\x01y", "x\ty", "x\x7f", ".", "..", "...", "~", "~x", "a b", " a"),
    *("a ", "a@b", "a,b=c", "y" * 400, "INBOX", "#sieve-", "$x", "+x", "-x", "a[b]", "a]", "'", "&/wU-"),
    "&,wU-",
]


@pytest.mark.parametrize("folder", TYPED)
def test_a_new_folder_is_called_what_a_real_server_would_call_it(replica: Cyrus, folder: str) -> None:
    """Judged by IMAP CREATE: what it refuses we refuse, what it takes we take."""
    user = f"judge{TYPED.index(folder)}"
    with replica.imap() as admin:
        admin.ok("CREATE", f"user/{user}")
        answer, _ = admin.command("CREATE", f"user/{user}/{folder}".encode())
    try:
        check_new_name(Namespace().internal(f"user/{user}/{folder}"))
    except BadName:
        assert not answer.startswith("OK"), answer
    else:
        assert answer.startswith("OK"), answer


@pytest.mark.every_release
def test_names_of_a_domain_go_from_a_real_server_to_ours_and_on_to_another(domains: Cyrus) -> None:
    user, folders = "jim@example.org", ["Yahoo!", "Yahoo!/x", ".", "..", "~", "a@b", "bob@example.org"]
    space = Namespace()
    with domains.imap() as admin:
        admin.ok("CREATE", f"user/{user}")
        for folder in folders:
            admin.ok("CREATE", quote(f"user/jim/{folder}@example.org"))
    with Ours.installed("middle") as ours, Cyrus.running("last", {"virtdomains": "on"}) as last:
        domains.sync_client("-u", user, to=ours.csync).check()
        assert differences(state_of(domains.csync, user), state_of(ours.csync, user)) == []
        with ours.store.read(Owner("user", user)) as reader:
            names = [state.name for state in reader.mailboxes()]
        assert {space.internal(f"user/{user}/{folder}") for folder in folders} <= set(names)
        assert all(owner_of(name) == ("user", user) for name in names)
        listed = ours.mailstore("ls", "-1", "--deleted", user).check().out.splitlines()
        assert [space.internal(name) for name in listed] == names
        ours.sync_client("-u", user, to=last.csync).check()
        assert differences(state_of(domains.csync, user), state_of(last.csync, user)) == []
        assert ours.sync_client("-v", "-u", user, to=last.csync).check().out == f"USER {user}\n"


@pytest.mark.every_release(
    without=("3.2",)
)  # its directories are named so, and a part of 400 octets is too long
def test_a_deleted_mailbox_of_a_domain_goes_over_as_far_as_a_real_server_can_hold_its_name(
    real_cyrus: None,
) -> None:
    """A name that is longer for being deleted than any may be (490 octets): 3.10 and 3.12 take it; 3.6 takes
    it, does not list it, and breaks down over it the next time (an assertion in its mailbox.c)."""
    user = "jim@example.org"
    inside = "example.org!user.jim."
    with Ours.installed("middle") as ours, Cyrus.running("last", {"virtdomains": "on"}) as last:
        ours.mailstore("create", f"user/{user}").check()
        for letter, octets in (("x", 480 - len("DELETED.") - len(".01234567")), ("y", 490)):
            name = f"user/{user}/" + letter * (octets - len(inside))
            ours.mailstore("create", name).check()
            ours.mailstore("delete", name).check()
        ours.sync_client("-u", user, to=last.csync).check()
        apart = differences(state_of(ours.csync, user), state_of(last.csync, user))
        if last.release.number >= (3, 10):
            assert apart == [] and ours.sync_client("-u", user, to=last.csync).status == 0
        else:
            assert [one.partition("jim.")[2][0] for one in apart] == ["y"]


def test_a_folder_with_an_at_sign_stays_its_users(domains: Cyrus) -> None:
    """With virtdomains off such a folder is common; a real server keeps it apart by its internal name."""
    with Ours.installed("at") as ours:
        for name in ("user/al", "user/al@example.org", "user/al/bob@example.org", "user/al@example.org/bob"):
            ours.mailstore("create", name).check()
        for user in ("al", "al@example.org"):
            ours.sync_client("-u", user, to=domains.csync).check()
            assert differences(state_of(ours.csync, user), state_of(domains.csync, user)) == []
        ours.mailstore("delete", "--immediate", "user/al/bob@example.org").check()
        ours.sync_client("-A", to=domains.csync).check()
    assert list(state_of(domains.csync, "al")["mailboxes"]) == ["user.al"]
    assert len(state_of(domains.csync, "al@example.org")["mailboxes"]) == 2


@pytest.mark.parametrize("keyword", ["NIL", "nil", "~", "[x", "$Forwarded", "k" * 1000])
def test_odd_keywords_go_over_to_a_real_server(replica: Cyrus, user: str, keyword: str) -> None:
    with Ours.installed("keywords", serving=False) as ours:
        with ours.store.write(Owner("user", user)) as box:
            box.create(f"user.{user}")
            box.append(f"user.{user}", [(message("one"), JANUARY, keyword), (message("two"), JANUARY, "Job")])
        ours.sync_client("-u", user, to=replica.csync).check()
        ours.sync_client("-u", user, to=replica.csync).check()
    with replica.imap(user) as imap:
        imap.select()
        (answer,) = imap.ok("UID", "FETCH", "1", "(FLAGS)")
    assert f"({keyword} " in answer.decode().replace("\\Recent ", "") or f"{keyword})" in answer.decode()
