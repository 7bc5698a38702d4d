"""The spool of a real Cyrus, read from outside, and what its own programs say of the same: every release, and
every way to lay files out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import SERVER, Owner, owner_of
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.spool.master import SpoolMaster
from cyrus_sync.spool.server import Server
from tests.walking import files_below

from .cyrus import Cyrus, give_to_cyrus
from .fill import FOLDERS, SCRIPT, fill_everything, message
from .imap import quote
from .releases import Release

LAYOUTS: dict[str, dict[str, str]] = {
    "as it comes": {"virtdomains": "userid"},
    "by name": {
        "mailbox_legacy_dirs": "yes",
        "virtdomains": "userid",
        "hashimapspool": "yes",
        "fulldirhash": "yes",
        "mboxlist_db": "skiplist",
        "quota_db": "twoskip",
        "subscription_db": "twoskip",
        "seenstate_db": "skiplist",
        "metapartition-default": "{root}/meta",
        "metapartition_files": "header index annotations",
        "archivepartition-default": "{root}/archive",
        "archive_enabled": "yes",
        "archive_days": "0",
        "conversations": "yes",
        "partition-other": "{root}/other",
    },
    "other databases": {
        "virtdomains": "userid",
        "hashimapspool": "yes",
        "mboxlist_db": "flat",
        "quota_db": "sql",
        "quota_db_path": "{root}/conf/quotas.db",
        "sql_engine": "sqlite",
        "sql_hostnames": "localhost",
        "sql_database": "{root}/conf/all.sqlite",
        "annotation_db": "skiplist",
        "improved_mboxlist_sort": "yes",
    },
}
DOTTED, IN_DOMAIN = "zoe.b", "joe@ex.org"


@pytest.fixture(params=LAYOUTS, scope="session")
def cyrus(request: pytest.FixtureRequest, real_cyrus: None, release: Release) -> Iterator[Cyrus]:
    """A real Cyrus with everything in it that replication carries."""
    settings = dict(LAYOUTS[request.param])
    if release.number < (3, 6):
        settings.pop("mailbox_legacy_dirs", None)
    with Cyrus.running("spool", settings, release=release) as cyrus:
        for name in ("meta", "archive"):
            (cyrus.root / name).mkdir(exist_ok=True)
        _fill(cyrus, "partition-other" in settings)
        yield cyrus


def _fill(cyrus: Cyrus, partitions: bool) -> None:
    for name in ("meta", "archive"):
        give_to_cyrus(cyrus.root / name)
    fill_everything(cyrus, "alice", "bob")
    with cyrus.imap() as admin:
        for user in (DOTTED, IN_DOMAIN):
            local, at, domain = user.partition("@")

            def box(name: str, local: str = local, behind: str = at + domain) -> str:
                return quote(f"user/{local}/{name}{behind}")

            admin.ok("CREATE", quote(f"user/{user}"))
            for name in ("Old", "Gone"):
                admin.ok("CREATE", box(name))
            admin.ok("SETACL", box("Gone"), "cyrus", "lrswipkxtecda")
            admin.ok("RENAME", box("Old"), box("New.er"))
            admin.ok("DELETE", box("Gone"))
            admin.ok("SETQUOTA", quote(f"user/{user}"), "(STORAGE 5000)")
            admin.ok("SETQUOTA", box("New.er"), "(STORAGE 500 MESSAGE 3)")
        admin.ok("CREATE", "News")
        admin.ok("CREATE", quote("News/Sub box"))
        admin.ok("SETACL", "News", "anyone", "lrs")
        admin.ok("SETQUOTA", "News", "(MESSAGE 7)")
        admin.set_metadata("", "/shared/vendor/example/motto", b"of the server")
        if partitions:
            admin.ok("CREATE", quote("user/alice/far"), "other")
    cyrus.deliver(message("archived, maybe"), "alice", DOTTED, IN_DOMAIN)
    with cyrus.imap("alice") as imap:
        imap.ok("SUBSCRIBE", "INBOX")


@pytest.fixture
def master(cyrus: Cyrus) -> Iterator[SpoolMaster]:
    master = SpoolMaster(Server.from_config(Config.load(cyrus.config)))
    yield master
    master.close()


def _listed(cyrus: Cyrus) -> dict[str, dict[str, object]]:
    """What `ctl_mboxlist -d` says of each mailbox."""
    text = cyrus.tool("ctl_mboxlist", "-d").check().out
    if text.startswith("{"):
        return json.loads(text)  # type: ignore[no-any-return]
    found: dict[str, dict[str, object]] = {}
    for line in text.splitlines():
        name, rest = line.split("\t", 1)
        _, _, rest = rest.replace("(null)", "").partition(" ")
        partition, _, acl = rest.partition(" ")
        found[name] = {"partition": partition, "acl": _rights(acl)}
    return found


def _rights(acl: str) -> dict[str, str]:
    words = acl.split("\t")
    return dict(zip(words[::2], words[1::2], strict=False))


def _as_listed(state: MailboxState, keys: Iterable[str]) -> dict[str, object]:
    whole = {
        "name": state.name,
        "partition": state.partition,
        "acl": _rights(state.acl),
        "mbtype": state.mbtype,
        "uniqueid": state.uniqueid,
        "uidvalidity": str(state.uidvalidity),
        "foldermodseq": str(state.foldermodseq),
        "createdmodseq": str(state.createdmodseq),
    }
    return {key: value for key, value in whole.items() if key in keys}


pytestmark = pytest.mark.every_release


@pytest.mark.covers("imapd.conf", "mboxlist_db", "improved_mboxlist_sort")
def test_every_mailbox_is_found_with_its_owner(cyrus: Cyrus, master: SpoolMaster) -> None:
    owners = list(master.owners())
    assert owners == [
        Owner("user", "alice"),
        Owner("user", "bob"),
        Owner("user", IN_DOMAIN),
        Owner("user", DOTTED),
        Owner("shared", "News"),
    ]
    seen: list[MailboxState] = []
    for owner in owners:
        with master.read(owner) as reader:
            states = reader.mailboxes()
            assert all(owner_of(state.name) == owner for state in states)
            assert all(master.owner_of_uniqueid(state.uniqueid) == owner for state in states)
            assert [reader.mailbox(state.name) for state in states] == states
            seen += [state for state in states if not state.intermediate]
    assert len({state.name for state in seen}) == len(seen)
    listed = {name: entry for name, entry in _listed(cyrus).items() if entry.get("partition")}
    assert {state.name for state in seen} == set(listed)
    for state in seen:
        entry = listed[state.name]
        expected = {key: entry[key] for key in _as_listed(state, entry)}
        if "mbtype" in expected:
            letters = str(expected["mbtype"]).replace("l", "")
            expected["mbtype"] = letters if letters != "e" else ""
        assert _as_listed(state, entry) == expected


def test_records_counters_and_sums_are_those_of_the_daemons(cyrus: Cyrus, master: SpoolMaster) -> None:
    owner = Owner("user", "alice")
    with master.read(owner) as reader, cyrus.imap("alice") as imap:
        for state in reader.mailboxes():
            if state.intermediate or not state.name.startswith("user.alice"):
                continue
            records = [record for batch in reader.records(state.uniqueid) for record in batch]
            if "#sieve" not in state.name:
                status = imap.status(_external(state.name))
                assert status["MESSAGES"] == sum(not record.expunged for record in records)
                assert status["UIDVALIDITY"] == state.uidvalidity
                assert status["UIDNEXT"] == state.last_uid + 1
                assert status["HIGHESTMODSEQ"] == state.highestmodseq
            assert mailbox_crcs(records) == (state.sync_crc, state.sync_crc_annot), state.name
            assert reader.recalculate_crcs(state.uniqueid) == (state.sync_crc, state.sync_crc_annot)
            wanted = [(record.uid, record.guid) for record in records if not record.expunged]
            bodies = [body for batch in master.messages(owner, state.uniqueid, wanted) for body in batch]
            assert [body.guid for body in bodies] == [guid for _, guid in wanted]
            assert reader.readable(state.uniqueid, wanted, verify=True) == {guid for _, guid in wanted}


def _external(name: str) -> str:
    return "INBOX" + name.removeprefix("user.alice").replace(".", "/").replace("^", ".")


def test_acl_annotations_and_partitions(cyrus: Cyrus, master: SpoolMaster) -> None:
    with master.read(Owner("user", "alice")) as reader:
        lists = reader.mailbox("user.alice.lists")
        assert lists is not None
        assert "bob\tlrswited\t" in lists.acl
        assert "anyone\tlr\t" in lists.acl
        notes = {(note.entry, note.userid): note.value for note in reader.annotations("user.alice.lists")}
        assert notes["/comment", ""] == b"shared words"
        assert notes["/comment", "alice"] == b'private "words" \\ with 100 % of it'
        assert [note.value for note in lists.annotations] == list(notes.values())
        far = reader.mailbox("user.alice.far")
        assert (far.partition if far else "other") == "other"
    with master.read(SERVER) as reader:
        assert [(n.entry, n.value) for n in reader.annotations("")] == [
            ("/vendor/example/motto", b"of the server")
        ]


def test_deleted_and_renamed_mailboxes_leave_their_traces(master: SpoolMaster) -> None:
    for user, root in ((DOTTED, "user.zoe^b"), (IN_DOMAIN, "ex.org!user.joe")):
        with master.read(Owner("user", user)) as reader:
            renamed = reader.mailbox(f"{root}.New^er")
            assert renamed is not None
            stones = {stone.name: stone for stone in reader.tombstones()}
            assert set(stones) == {f"{root}.Old", f"{root}.Gone"}
            assert stones[f"{root}.Old"].uniqueid == renamed.uniqueid
            assert reader.mailbox(f"{root}.Gone") is None
            kept = [state for state in reader.mailboxes() if "DELETED" in state.name]
            assert [state.uniqueid for state in kept] == [stones[f"{root}.Gone"].uniqueid]
            assert reader.former_names(renamed.uniqueid) in ([], [f"{root}.Old"])


@pytest.mark.covers("imapd.conf", "quota_db", "quota_db_path")
def test_quota_roots_are_those_of_the_server(cyrus: Cyrus, master: SpoolMaster) -> None:
    for owner, root, child in (
        (Owner("user", DOTTED), "user.zoe^b", "user.zoe^b.New^er"),
        (Owner("user", IN_DOMAIN), "ex.org!user.joe", "ex.org!user.joe.New^er"),
    ):
        with master.read(owner) as reader:
            assert [(quota.root, quota.limits) for quota in reader.quotas()] == [
                (root, {"STORAGE": 5000}),
                (child, {"STORAGE": 500, "MESSAGE": 3}),
            ]
            live = [state for state in reader.mailboxes() if "DELETED" not in state.name]
            assert {state.quotaroot for state in live} == {root, child}
    with master.read(Owner("shared", "News")) as reader:
        assert [(quota.root, quota.limits) for quota in reader.quotas()] == [("News", {"MESSAGE": 7})]
        assert reader.quota("user.nobody") is None


def test_seen_state_subscriptions_and_scripts(cyrus: Cyrus, master: SpoolMaster) -> None:
    with master.read(Owner("user", "alice")) as reader:
        lists = reader.mailbox("user.alice.lists")
        meta = reader.meta(with_sieve=True)
        assert meta.subscriptions == ("user.alice", "user.alice.lists", "user.alice.with space")
        assert meta.seen == ()
        names = [script.filename for script in meta.sieve]
        assert sorted(names) == ["main.bc", "main.script", "spare.script"]
        assert [script.filename for script in meta.sieve if script.active] == ["main.bc"]
        content = reader.sieve_content("main.script")
        assert content is not None
        assert content.strip() == SCRIPT.strip()
    with master.read(Owner("user", "bob")) as reader:
        meta = reader.meta(with_sieve=True)
        assert meta.subscriptions == ("user.alice.lists",)
        assert lists is not None
        assert [(seen.uniqueid, seen.seenuids) for seen in meta.seen] == [(lists.uniqueid, "1")]
        assert reader.seen(lists.uniqueid) == meta.seen[0]
        assert reader.seen("nobody") is None


def test_every_folder_with_an_awkward_name_is_there(master: SpoolMaster) -> None:
    with master.read(Owner("user", "alice")) as reader:
        names = {state.name for state in reader.mailboxes()}
    for folder in FOLDERS:
        assert "user.alice." + folder.replace(".", "^").replace("/", ".") in names


def test_nothing_was_written_into_the_spool(cyrus: Cyrus, master: SpoolMaster) -> None:
    before = _times(cyrus.root)
    for owner in master.owners():
        with master.read(owner) as reader:
            for state in reader.mailboxes():
                reader.recalculate_crcs(state.uniqueid)
            reader.meta(with_sieve=True)
            reader.quotas()
    changed = {path for path, when in _times(cyrus.root).items() if before.get(path) != when}
    assert not {path for path in changed if not re.search(r"/(proc|socket|lock)/|/log$", path)}


def _times(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (status.st_mtime_ns, status.st_size) for path, status in files_below(root).items()}
