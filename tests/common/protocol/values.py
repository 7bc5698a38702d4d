"""Strategies for what travels: dlist values and model values that both ends must agree on."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from common.model import SYSTEM_FLAGS, Annotation, MailboxState, Record
from common.protocol.crc import VIRTUAL_ENTRIES
from common.protocol.dlist import File, Flag

text_bytes = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"NIL", b"nil", b"a b", b"h%i", b"\\Seen", b"{3}", b"x" * 1023, b"x" * 1024]),
    st.from_regex(rb"[a-z.^#&/\]}<',-]{1,12}", fullmatch=True),
)
flags = st.from_regex(rb"\\?[A-Za-z$][A-Za-z0-9$_-]{0,12}", fullmatch=True).filter(lambda f: f != b"NIL")


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
keywords = st.from_regex(r"[A-Za-z0-9$_.!#&'+,/:;<=>?@\[^`|}~-]{1,12}", fullmatch=True)
names = st.from_regex(r"user\.[a-z]{1,8}(\.[A-Za-z][A-Za-z0-9 _&-]{0,8}){0,2}", fullmatch=True).map(
    str.rstrip
)
entries = st.one_of(
    st.sampled_from(["/comment", "/vendor/cmu/cyrus-imapd/basethrid", "/vendor/x/a b"]),
    st.from_regex(r"/[a-z/]{1,12}", fullmatch=True),
).filter(lambda entry: entry not in VIRTUAL_ENTRIES)
contents = st.one_of(
    st.binary(min_size=1, max_size=30), st.from_regex(rb"[ -~]{1,30}", fullmatch=True), st.just(b"NIL")
)


@st.composite
def annotation_sets(draw: st.DrawFn, max_size: int = 3) -> tuple[Annotation, ...]:
    drawn = draw(
        st.lists(
            st.builds(
                Annotation, entries, st.sampled_from(["", "alice", "NIL", "jos\u00e9 x"]), n64, contents
            ),
            max_size=max_size,
            unique_by=lambda annotation: annotation[:2],
        )
    )
    return tuple(sorted(drawn))


@st.composite
def flag_texts(draw: st.DrawFn) -> str:
    system = draw(st.sets(st.sampled_from([name for name in SYSTEM_FLAGS if name != "\\Expunged"])))
    words = draw(st.lists(keywords, max_size=3, unique_by=str.lower))
    return " ".join([*(name for name in SYSTEM_FLAGS if name in system), *words])


@st.composite
def record_lists(draw: st.DrawFn, max_size: int = 8) -> list[Record]:
    uids = draw(st.lists(st.integers(1, 2**32 - 1), max_size=max_size, unique=True))
    return [
        Record(
            uid=uid,
            modseq=draw(n64),
            last_updated=draw(dates),
            flags=draw(flag_texts()),
            expunged=draw(st.booleans()),
            internaldate=draw(dates),
            size=draw(st.integers(1, 2**32 - 1)),
            guid=draw(st.binary(min_size=20, max_size=20).filter(any)),
            thrid=draw(st.one_of(st.just(0), st.integers(0, 2**64 - 1))),
            savedate=draw(st.one_of(st.just(0), dates)),
            createdmodseq=draw(st.one_of(st.just(0), n64)),
            annotations=draw(annotation_sets()),
        )
        for uid in sorted(uids)
    ]


mailbox_states = st.builds(
    MailboxState,
    uniqueid=st.from_regex(r"[a-z0-9]{24}", fullmatch=True),
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
    annotations=annotation_sets(),
)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places (modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


cut_lists = st.lists(st.integers(0, 2**20), max_size=12)
