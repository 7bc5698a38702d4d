"""What a server tells of messages and folders besides flags: annotations, and where quota roots are."""

from __future__ import annotations

import pytest

from cyrus_sync.pull.connection import Line
from cyrus_sync.pull.limits import Roots, wanted_roots
from cyrus_sync.pull.notes import annotated

NIL = b"/vendor/cmu/cyrus-imapd/thrid (value.priv NIL value.shared NIL) /altsubject (value.priv NIL)"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b"1 (UID 7 ANNOTATION (" + NIL + b"))"], {7: {}}),
        ([b"1 (ANNOTATION () UID 7)"], {7: {}}),
        (
            [b'1 (UID 7 ANNOTATION (/comment (value.shared "x") ' + NIL + b" /comment (value.priv NIL)))"],
            {7: {("/comment", ""): b"x"}},
        ),
        (
            [(b"1 (UID 7 ANNOTATION (/comment (value.priv {4}", b'a"\r\n'), b' value.shared "2")))'],
            {7: {("/comment", "alice"): b'a"\r\n', ("/comment", ""): b"2"}},
        ),
        ([b'1 (UID 7 ANNOTATION (/vendor/cmu/cyrus-imapd/savedate (value.shared "9")))'], {7: {}}),
        ([b"1 (UID 7 FLAGS (\\Seen))"], {}),
    ],
)
def test_annotations_are_read_however_they_are_written(lines: list[Line], found: object) -> None:
    assert dict(annotated(lines, "alice")) == found


def test_what_is_private_is_nobodys_in_a_shared_folder() -> None:
    assert dict(annotated([b'1 (UID 7 ANNOTATION (/comment (value.priv "x")))'], "")) == {7: {}}


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"user.a": {b"": {"STORAGE": 9}}, "user.a.b": {b"": {"STORAGE": 9}}}, {"user.a": {"STORAGE": 9}}),
        (
            {"user.a": {b"u": {"STORAGE": 9}}, "user.a.b": {b"c": {"MESSAGE": 1}}, "user.a.b.c": {b"c": {}}},
            {"user.a": {"STORAGE": 9}, "user.a.b": {"MESSAGE": 1}},
        ),
        ({"user.a": {}, "user.a.b": {b"b": {"STORAGE": 1}}}, {"user.a.b": {"STORAGE": 1}}),
        ({"user.a": {b"u": {"STORAGE": 9}}, "user.a.b": {}}, {"user.a": {"STORAGE": 9}, "user.a.b": {}}),
        ({"user.a": {b"u": {"STORAGE": 9}, b"v": {"STORAGE": 5, "MESSAGE": 7}}},
         {"user.a": {"STORAGE": 5, "MESSAGE": 7}}),
    ],
)  # fmt: skip
def test_a_quota_root_is_where_others_hold_than_above(told: dict[str, Roots], wanted: object) -> None:
    assert wanted_roots(told) == wanted
