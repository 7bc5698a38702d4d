"""Model values and dlist values: both directions, the forms of all releases, and strict validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.errors import BadParameters, ReplyError
from cyrus_sync.common.model import (
    NULL_GUID,
    Annotation,
    MailboxAnnotation,
    MailboxState,
    Quota,
    Seen,
    SieveScript,
    Since,
)
from cyrus_sync.common.names import BadName
from cyrus_sync.common.protocol import codec, dlist
from tests.common.protocol.values import dlist_values, mailbox_states

GUIDS = [bytes([n]) * 20 for n in range(3)]
SEEN = Seen("9rrl3b30ribz5yz83zse56n0", 1795239936, 7, 1795239937, "1:4,7")


def wire(value: Any) -> Any:
    """`value` printed and read."""
    return dlist.parse(dlist.encode(value, server=True))[0]


def value_of(text: bytes) -> Any:
    return dlist.parse(text)[0]


@pytest.mark.parametrize(
    ("encoded", "decode", "expected"),
    [
        (codec.encode_names(["user.a", "user.b"]), codec.decode_mailbox_names, ["user.a", "user.b"]),
        (codec.encode_names(["abc", "DEF-1"]), codec.decode_uniqueids, ["abc", "DEF-1"]),
        (codec.encode_names(["SIEVE-MAILBOX"]), codec.decode_capabilities, ["SIEVE-MAILBOX"]),
        (codec.encode_names(["user.a", "odd/name"]), codec.decode_subscriptions, ["user.a", "odd/name"]),
        (codec.encode_guids(GUIDS), codec.decode_guids, GUIDS),
        (codec.encode_seen(SEEN), codec.decode_seen, SEEN),
        (codec.encode_seen(SEEN, "bob"), codec.decode_apply_seen, ("bob", SEEN)),
        (
            codec.encode_sieve_script(SieveScript("main.script", 5, GUIDS[1], True)),
            codec.decode_sieve_script,
            SieveScript("main.script", 5, GUIDS[1], True),
        ),
        (codec.encode_sieve_file("al", "x.bc"), codec.decode_sieve_file, ("al", "x.bc")),
        (
            codec.encode_sieve_upload("al", "été.script", 5, b"keep;\r\n\0"),
            codec.decode_sieve_upload,
            ("al", "été.script", 5, b"keep;\r\n\0"),
        ),
        (codec.encode_sieve_content("al", "x.script", b""), codec.decode_sieve_content, b""),
        (codec.encode_user("al"), codec.decode_user, "al"),
        (
            codec.encode_annotation(MailboxAnnotation("", "/motd", "", b"hi")),
            codec.decode_annotation,
            MailboxAnnotation("", "/motd", "", b"hi"),
        ),
        (
            codec.encode_unannotation("user.a", "/comment", "bob"),
            codec.decode_unannotation,
            MailboxAnnotation("user.a", "/comment", "bob", b""),
        ),
        (
            codec.encode_fetch("user.a", "default", "id1", GUIDS[2], 9),
            codec.decode_fetch,
            ("user.a", "default", "id1", GUIDS[2], 9),
        ),
        (
            codec.encode_reserve("default", ["user.a"], GUIDS),
            codec.decode_reserve,
            ("default", ["user.a"], GUIDS),
        ),
        (codec.encode_expunge("user.a", "id1", [1, 5]), codec.decode_expunge, ("user.a", "id1", [1, 5])),
        (
            codec.encode_rename("user.a", "user.b", "p1", 7),
            codec.decode_rename,
            ("user.a", "user.b", "p1", 7),
        ),
        (codec.encode_rename("user.a", "user.b", "p1"), codec.decode_rename, ("user.a", "user.b", "p1", 0)),
        (codec.encode_subscription("al", "user.a"), codec.decode_subscription, ("al", "user.a")),
        (codec.encode_nothing(), codec.decode_nothing, None),
        (b"al", codec.decode_userid, "al"),
        (b"", codec.decode_unuser, ""),
        (b"user.a", codec.decode_mailbox_name, "user.a"),
        (b"", codec.decode_annotation_mailbox, ""),
        (b"user.a", codec.decode_root, "user.a"),
    ],
)
def test_every_shape_travels_both_ways(encoded: Any, decode: Callable[[Any], Any], expected: Any) -> None:
    assert decode(wire(encoded)) == expected


@given(mailbox_states)
def test_a_mailbox_travels_both_ways(state: MailboxState) -> None:
    assert codec.decode_mailbox(wire(codec.encode_mailbox(state))) == state
    assert codec.decode_mailbox(wire(codec.encode_mailbox(state)), answer=True) == state


SEEN_ON_THE_WIRE = (
    b"%(UNIQUEID 9rrl3b30ribz5yz83zse56n0 MBOXNAME user.alice.lists SYNC_CRC 3882128807 SYNC_CRC_ANNOT"
    b" 3101509256 LAST_UID 2 HIGHESTMODSEQ 8 RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 1795239936"
    b" POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 1795239937 PARTITION default ACL"
    b' "alice\tlrswipkxtecdan\tbob\tlrswipted\t" OPTIONS P QUOTAROOT user.alice CREATEDMODSEQ 1 FOLDERMODSEQ'
    b' 7 ANNOTATIONS (%(ENTRY /comment USERID "" MODSEQ 0 VALUE "shared words")))'
)


def test_keys_are_printed_in_the_order_of_cyrus() -> None:
    state = codec.decode_mailbox(value_of(SEEN_ON_THE_WIRE))
    assert state.annotations == (Annotation("/comment", "", 0, b"shared words"),)
    assert dlist.encode(codec.encode_mailbox(state), server=True) == SEEN_ON_THE_WIRE
    every = MailboxState(
        "id",
        "user.a",
        xconvmodseq=1,
        raclmodseq=2,
        usergroups="g",
        partition="p",
        createdmodseq=3,
        foldermodseq=4,
        deletedmodseq=5,
        userflags=("$a", "NIL"),
    )
    assert dlist.encode(codec.encode_mailbox(every, since=Since(6, 7, 8)), server=True) == (
        b"%(UNIQUEID id MBOXNAME user.a SYNC_CRC 0 LAST_UID 0 HIGHESTMODSEQ 0 RECENTUID 0 RECENTTIME 0"
        b" LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 XCONVMODSEQ 1 RACLMODSEQ 2 USERGROUPS g"
        b' UIDVALIDITY 0 PARTITION p ACL "" OPTIONS "" CREATEDMODSEQ 3 FOLDERMODSEQ 4 DELETEDMODSEQ 5'
        b' USERFLAGS ($a "NIL") SINCE_MODSEQ 6 SINCE_CRC 7 SINCE_CRC_ANNOT 8)'
    )


def test_a_delta_tells_where_it_starts() -> None:
    state = MailboxState("id", "user.a", sync_crc=1, partition="p")
    value = wire(codec.encode_mailbox(state, since=Since(6, 7, 8)) | {"RECORD": []})
    assert codec.decode_mailbox_line(value) == (state, Since(6, 7, 8), False, True)


def test_a_partial_mailbox_has_no_crcs() -> None:
    state = MailboxState("id", "user.a", sync_crc=5, sync_crc_annot=6, partition="p")
    value = wire(codec.encode_mailbox(state, partial=True) | {"RECORD": []})
    line = codec.decode_mailbox_line(value)
    assert line.partial
    assert (line.state.sync_crc, line.state.sync_crc_annot) == (0, None)


def test_a_mailbox_of_cyrus_2_4_is_read() -> None:
    value = value_of(
        b"%(UNIQUEID 0123456789abcdef MBOXNAME user.a LAST_UID 1 HIGHESTMODSEQ 2 RECENTUID 0 RECENTTIME 0"
        b' LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 3 PARTITION default ACL "" OPTIONS "" RECORD ())'
    )
    line = codec.decode_mailbox_line(value)
    assert (line.state.sync_crc, line.state.sync_crc_annot, line.since) == (0, None, None)


def test_an_intermediate_needs_three_keys_and_is_answered_with_a_nil_partition() -> None:
    short = value_of(b"%(UNIQUEID id MBOXNAME user.a MBOXTYPE ei HIGHESTMODSEQ 4 CREATEDMODSEQ 2)")
    line = codec.decode_mailbox_line(short)
    assert line.state.intermediate
    assert not line.has_records
    assert wire(codec.encode_intermediate(line.state)) == short
    answer = codec.encode_mailbox(line.state)
    assert b'PARTITION NIL ACL "" OPTIONS ""' in dlist.encode(answer, server=True)
    assert codec.decode_mailbox(wire(answer), answer=True).partition == ""


def test_an_answer_may_lack_what_the_client_ignores() -> None:
    value = value_of(SEEN_ON_THE_WIRE.replace(b" LAST_APPENDDATE 1795239936", b""))
    assert codec.decode_mailbox(value, answer=True).last_appenddate == 0
    with pytest.raises(BadParameters):
        codec.decode_mailbox(value)


REQUIRED = """UNIQUEID MBOXNAME LAST_UID HIGHESTMODSEQ RECENTUID RECENTTIME LAST_APPENDDATE POP3_LAST_LOGIN
UIDVALIDITY PARTITION ACL OPTIONS"""


@pytest.mark.covers("Codes after NO", "IMAP_PROTOCOL_BAD_PARAMETERS")
@pytest.mark.parametrize("key", REQUIRED.split())
def test_a_required_key_that_is_missing_is_bad_parameters(key: str) -> None:
    value = value_of(SEEN_ON_THE_WIRE)
    del value[key.encode()]
    with pytest.raises(BadParameters, match=key):
        codec.decode_mailbox(value)


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        (b"UNIQUEID", None),
        (b"UNIQUEID", b"../x"),
        (b"UNIQUEID", b""),
        (b"UNIQUEID", b"x" * 200),
        (b"SYNC_CRC", b"-1"),
        (b"SYNC_CRC", None),
        (b"SYNC_CRC_ANNOT", b"4294967296"),
        (b"LAST_UID", b"1e3"),
        (b"LAST_UID", [b"1"]),
        (b"HIGHESTMODSEQ", b"9223372036854775808"),
        (b"HIGHESTMODSEQ", {}),
        (b"RECENTTIME", b""),
        (b"PARTITION", None),
        (b"PARTITION", b"a/b"),
        (b"PARTITION", b".."),
        (b"ACL", b"alice\tlrs\t\r\n"),
        (b"ACL", b"\xff"),
        (b"ACL", [b"x"]),
        (b"OPTIONS", b"P Q"),
        (b"MBOXTYPE", dlist.File(b"p", b"g", 1)),
        (b"ANNOTATIONS", b"x"),
        (b"ANNOTATIONS", None),
        (b"RECORD", b"x"),
        (b"RECORD", None),
        (b"RECORD", {}),
        (b"SINCE_MODSEQ", b"x"),
        (b"USERFLAGS", b"x"),
    ],
)
def test_a_bad_value_in_a_mailbox_is_bad_parameters(key: bytes, bad: Any) -> None:
    value = value_of(SEEN_ON_THE_WIRE) | {b"RECORD": []}
    assert codec.decode_mailbox_line(value)
    with pytest.raises(BadParameters):
        codec.decode_mailbox_line(value | {key: bad})


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_BADNAME")
@pytest.mark.parametrize(
    "name",
    [b"", b"user./../../x", b"user.a\0b", b"user.a/b", b"user.a\r\nb", b"user.\xc3\xa9", b"x" * 100_000],
)
def test_names_that_no_store_keeps_are_refused_everywhere(name: bytes) -> None:
    for decode, value in (
        (codec.decode_mailbox, value_of(SEEN_ON_THE_WIRE) | {b"MBOXNAME": name}),
        (codec.decode_mailbox_name, name),
        (codec.decode_mailbox_names, [name]),
        (codec.decode_root, name),
        (codec.decode_quota, {b"ROOT": name, b"LIMIT": b"1"}),
        (codec.decode_subscription, {b"USERID": b"al", b"MBOXNAME": name}),
        (codec.decode_rename, {b"OLDMBOXNAME": b"user.a", b"NEWMBOXNAME": name, b"PARTITION": b"p"}),
    ):
        with pytest.raises((BadName, BadParameters)):
            decode(value)


@pytest.mark.parametrize("userid", [b"", b"../x", b"a/b", b"a\0", None, [], {}, b"\xe9", b"x" * 100_000])
def test_bad_userids_are_refused(userid: Any) -> None:
    with pytest.raises((BadName, BadParameters)):
        codec.decode_userid(userid)
    with pytest.raises((BadName, BadParameters)):
        codec.decode_user({b"USERID": userid})


@pytest.mark.parametrize("filename", [b"", b"../x.script", b".hidden", b"a/b.script", b"a\0.script", None])
def test_bad_file_names_are_refused(filename: Any) -> None:
    with pytest.raises((BadName, BadParameters)):
        codec.decode_sieve_file({b"USERID": b"al", b"FILENAME": filename})


@pytest.mark.covers("GET, APPLY, RESTORE", "GET MAILBOXES")
def test_a_bare_name_where_a_list_belongs_names_nothing() -> None:
    assert codec.decode_mailbox_names(b"user.a") == []
    assert codec.decode_uniqueids(b"abc") == []
    for bad in (None, {}, dlist.File(b"p", b"g", 1)):
        with pytest.raises(BadParameters):
            codec.decode_mailbox_names(bad)


@pytest.mark.parametrize("item", [None, [b"x"], {}, dlist.File(b"p", b"g", 1)])
def test_odd_items_in_lists_are_bad_parameters(item: Any) -> None:
    for decode in (
        codec.decode_mailbox_names,
        codec.decode_uniqueids,
        codec.decode_capabilities,
        codec.decode_guids,
    ):
        with pytest.raises(BadParameters):
            decode([b"aaaa", item])


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY QUOTA")
@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (b"%(ROOT user.a LIMIT 100 MODSEQ 3)", {"STORAGE": 100}),
        (b"%(ROOT user.a LIMIT 100)", {"STORAGE": 100}),
        (b"%(ROOT user.a LIMIT 100 STORAGE 100 MODSEQ 18)", {"STORAGE": 100}),
        (b"%(ROOT user.a LIMIT 4294967295 MESSAGE 7 MODSEQ 18)", {"MESSAGE": 7}),
        (
            b"%(ROOT user.a LIMIT 1 STORAGE 1 MESSAGE 2 X-ANNOTATION-STORAGE 3 X-NUM-FOLDERS 4 MODSEQ 1)",
            {"STORAGE": 1, "MESSAGE": 2, "X-ANNOTATION-STORAGE": 3, "X-NUM-FOLDERS": 4},
        ),
        (
            b"%(ROOT user.a LIMIT 1 STORAGE 1 MESSAGE 2 ANNOTATION-STORAGE 3 MAILBOX 4 MODSEQ 1)",
            {"STORAGE": 1, "MESSAGE": 2, "X-ANNOTATION-STORAGE": 3, "X-NUM-FOLDERS": 4},
        ),
    ],
)
def test_quotas_of_all_releases_are_read(text: bytes, limits: dict[str, int]) -> None:
    assert codec.decode_quota(value_of(text)).limits == limits


def test_quotas_are_printed_with_the_names_that_all_releases_read() -> None:
    quota = Quota("user.a", {"X-NUM-FOLDERS": 4, "MESSAGE": 2, "X-ANNOTATION-STORAGE": 3}, 9)
    assert dlist.encode(codec.encode_quota(quota), server=True) == (
        b"%(ROOT user.a LIMIT 4294967295 MESSAGE 2 X-ANNOTATION-STORAGE 3 X-NUM-FOLDERS 4 MODSEQ 9)"
    )
    assert codec.decode_quota(wire(codec.encode_quota(quota))) == quota


@pytest.mark.parametrize("uids", [b"", b"1", b"1:4,7", b"1:*", b"1,2,3", None])
def test_sequence_sets_are_read(uids: bytes | None) -> None:
    value = wire(codec.encode_seen(SEEN)) | {b"SEENUIDS": uids}
    assert codec.decode_seen(value).seenuids == (uids or b"").decode()


@pytest.mark.parametrize("uids", [b"x", b"1:", b",1", b"1,", b"1;2", b"1 2", [b"1"], b"99999999999"])
def test_what_is_no_sequence_set_is_refused(uids: Any) -> None:
    with pytest.raises(BadParameters):
        codec.decode_seen(wire(codec.encode_seen(SEEN)) | {b"SEENUIDS": uids})


def test_a_sieve_line_without_guid_is_read() -> None:
    script = codec.decode_sieve_script(value_of(b"%(FILENAME x.bc LAST_UPDATE 5)"))
    assert script == SieveScript("x.bc", 5, NULL_GUID, False)


def test_an_annotation_without_value_is_empty() -> None:
    value = value_of(b'%(MBOXNAME "" ENTRY /motd USERID NIL VALUE NIL)')
    assert codec.decode_annotation(value) == MailboxAnnotation("", "/motd", "", b"")


ALL_DECODERS = [name for name in dir(codec) if name.startswith("decode_") and name != "decode_records"]


@given(st.sampled_from(ALL_DECODERS), dlist_values)
def test_no_value_makes_a_decoder_fail_otherwise_than_with_a_reply(name: str, value: Any) -> None:
    try:
        getattr(codec, name)(value)
    except ReplyError as error:
        assert "\r" not in error.reply
        assert "\n" not in error.reply


@given(
    st.sampled_from(ALL_DECODERS),
    st.sampled_from([SEEN_ON_THE_WIRE[:-1] + b" RECORD ())"]).map(value_of),
    st.data(),
)
def test_nor_does_a_damaged_mailbox(name: str, value: Any, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    try:
        getattr(codec, name)(value | {key: data.draw(dlist_values)})
    except ReplyError:
        return
