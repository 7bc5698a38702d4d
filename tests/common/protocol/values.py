"""Strategies for what travels: dlist values and model values that both ends must agree on."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from cyrus_sync.common.model import SYSTEM_FLAGS, Annotation, MailboxState, Record
from cyrus_sync.common.protocol.crc import VIRTUAL_ENTRIES
from cyrus_sync.common.protocol.dlist import File, Flag

text_bytes = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"NIL", b"nil", b"a b", b"h%i", b"\\Seen", b"{3}", b"x" * 1023, b"x" * 1024]),
    st.text("abz.^#&/]}<',-", min_size=1, max_size=12).map(str.encode),
)
_WORD = "ABzy09$_-"
flags = st.builds(
    lambda start, word: start + word.encode(),
    st.sampled_from([b"", b"\\"]),
    st.text(_WORD, min_size=1, max_size=8),
)


def _files(data: bytes) -> st.SearchStrategy[File]:
    return st.builds(File, text_bytes, text_bytes, st.just(len(data)), st.just(data))


leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    text_bytes,
    flags.map(Flag),
    st.binary(max_size=30).flatmap(_files),
)
dlist_values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(text_bytes, inner, max_size=5)),
    max_leaves=12,
)

n32 = st.integers(0, 2**32 - 1)
n64 = st.integers(0, 2**63 - 1)
dates = st.one_of(st.integers(0, 2**33), st.integers(-(2**63), 2**63 - 1))
keywords = st.text(_WORD + "NIL!#&'+,/:;<=>?@[^`|}~.", min_size=1, max_size=12)
_components = st.text("abXY_&- ", min_size=1, max_size=8).map(str.strip).filter(bool)
names = st.lists(_components, min_size=1, max_size=3).map(lambda parts: ".".join(["user", *parts]))
entries = st.one_of(
    st.sampled_from(["/comment", "/vendor/cmu/cyrus-imapd/basethrid", "/vendor/x/a b"]),
    st.text("ab/", max_size=8).map("/{}".format),
).filter(lambda entry: entry not in VIRTUAL_ENTRIES)
contents = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.text('az 09"%\\()', min_size=1, max_size=20).map(str.encode),
    st.just(b"NIL"),
)


_userids = st.sampled_from(["", "alice", "NIL", "jos\u00e9 x"])
_annotations = st.builds(Annotation, entries, _userids, n64, contents)
annotation_sets = st.one_of(
    st.just(()),
    st.lists(_annotations, max_size=2, unique_by=lambda annotation: annotation[:2]).map(
        lambda drawn: tuple(sorted(drawn))
    ),
)


def _flag_text(system: set[str], words: list[str]) -> str:
    return " ".join([*(name for name in SYSTEM_FLAGS if name in system), *words])


flag_texts = st.builds(
    _flag_text,
    st.sets(st.sampled_from([name for name in SYSTEM_FLAGS if name != "\\Expunged"])),
    st.lists(keywords, max_size=2, unique_by=str.lower),
)
_records = st.builds(
    Record,
    uid=st.integers(1, 2**32 - 1),
    modseq=n64,
    last_updated=dates,
    flags=flag_texts,
    expunged=st.booleans(),
    internaldate=dates,
    size=st.integers(1, 2**32 - 1),
    guid=st.binary(min_size=20, max_size=20).filter(any),
    thrid=st.one_of(st.just(0), st.integers(0, 2**64 - 1)),
    savedate=st.one_of(st.just(0), dates),
    createdmodseq=st.one_of(st.just(0), n64),
    annotations=annotation_sets,
)
record_lists = st.lists(_records, max_size=4, unique_by=lambda record: record.uid).map(sorted)
"""Valid lists: ascending."""


mailbox_states = st.builds(
    MailboxState,
    uniqueid=st.text("abyz0189", min_size=24, max_size=24),
    name=names,
    mbtype=st.sampled_from(["", "e", "f", "c", "ei", "d", "zq"]),
    sync_crc=n32,
    sync_crc_annot=st.one_of(st.none(), n32),
    last_uid=n32,
    highestmodseq=n64,
    recentuid=n32,
    recenttime=dates,
    last_appenddate=dates,
    pop3_last_login=dates,
    pop3_show_after=dates,
    xconvmodseq=n64,
    raclmodseq=n64,
    usergroups=st.sampled_from(["", "staff\tgroup:x"]),
    uidvalidity=n32,
    partition=st.sampled_from(["default", "p-2"]),
    acl=st.sampled_from(["", "alice\tlrswipkxtecdan\t", "j\u00f6rg\tlrs\t"]),
    options=st.sampled_from(["", "P", "PSDA"]),
    quotaroot=st.sampled_from(["", "user.alice"]),
    createdmodseq=n64,
    foldermodseq=n64,
    deletedmodseq=n64,
    userflags=st.lists(keywords, max_size=3, unique_by=str.lower).map(tuple),
    annotations=annotation_sets,
)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places (modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


cut_lists = st.lists(st.integers(0, 2**20), max_size=12)
