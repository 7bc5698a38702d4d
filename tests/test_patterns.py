"""Regular expressions of the product mean the same on every Python that it runs on.

Python before 3.11.5 (Debian 12 has 3.11.2) matches a possessive repetition of anything but one character
wrongly where the body can give back or looks ahead: ``(?:ab?c)*+`` takes the ``a`` of ``a``. Until 3.13.1
such a repetition with groups in it may raise SystemError. One character (``[^x]*+``) and atomic groups
(``(?>…)``) are right everywhere: random patterns of each form gave the same on 3.11.2 and 3.13.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from cyrus_sync.common.errors import BadParameters, SyncBadSieve
from cyrus_sync.common.protocol import dlist, fields
from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.record_reader import decode_records
from cyrus_sync.common.protocol.records import decode_record, encode_records
from cyrus_sync.common.protocol.skip import LineSkipper
from cyrus_sync.common.sieve import check_syntax
from cyrus_sync.common.synclog.lines import LogLine, format_line, parse_lines

ROOT = Path(__file__).parent.parent
PACKAGES = ("cyrus_sync", "demo", "bench")
ONE_CHARACTER = {"LITERAL", "NOT_LITERAL", "IN", "ANY", "RANGE", "CATEGORY"}
USERS_OF_PATTERNS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}


def has_wrong_form(pattern: str | bytes, flags: int = 0) -> bool:
    """True if some Python of ours matches `pattern` wrongly: more than a character repeated possessively."""
    return _possessive_group(_parser.parse(pattern, flags))


def _possessive_group(node: Any) -> bool:
    if isinstance(node, _parser.SubPattern):
        node = node.data
    if isinstance(node, tuple) and node and str(node[0]) == "POSSESSIVE_REPEAT":
        body = node[1][2]
        if len(body) != 1 or str(body[0][0]) not in ONE_CHARACTER:
            return True
    return isinstance(node, (tuple, list)) and any(map(_possessive_group, node))


@pytest.mark.parametrize(
    "pattern", [r"(?:ab?c)*+", rb"(?:W W)++", r"x(?:(a)|b)?+", r"(?>(?:ab){1,2}+)", r"(?!(..)*+)"]
)
def test_the_check_names_a_wrong_form(pattern: str | bytes) -> None:
    assert has_wrong_form(pattern)


@pytest.mark.parametrize(
    "pattern", [r"[^x]*+a++.?+\d{1,3}+", r"(?>(?:ab?c)*)", rb"(?:ab)*x+", r"(?:[a])*+", r"\(\)*+"]
)
def test_the_check_passes_right_forms(pattern: str | bytes) -> None:
    assert not has_wrong_form(pattern)


def sources() -> list[Path]:
    return sorted(
        path
        for package in PACKAGES
        for room in ((ROOT / package).iterdir() if package == "cyrus_sync" else [ROOT / package])
        for path in room.rglob("*.py")
    )


def test_no_pattern_that_an_old_python_matches_wrongly_is_compiled_by_a_module() -> None:
    """Modules are imported anew, so that patterns made of parts are seen as they are compiled."""
    compiled: list[tuple[str | bytes, int, str]] = []
    original = _compiler.compile

    def record(pattern: Any, flags: int = 0) -> Any:
        frame = sys._getframe(1)
        while frame.f_back is not None and Path(frame.f_code.co_filename).parent.name == "re":
            frame = frame.f_back
        if Path(frame.f_code.co_filename).is_relative_to(ROOT):
            compiled.append((pattern, int(flags), f"{frame.f_code.co_filename}:{frame.f_lineno}"))
        return original(pattern, flags)

    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] in PACKAGES}
    re.purge()
    _compiler.compile = record
    try:
        for name in kept:
            del sys.modules[name]
        for path in sources():
            if path.name != "__main__.py":
                parts = path.relative_to(ROOT).with_suffix("").parts
                importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    finally:
        _compiler.compile = original
        for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.modules.update(kept)
    assert len(compiled) > 50
    wrong = [f"{where}: {pattern!r}" for pattern, flags, where in compiled if has_wrong_form(pattern, flags)]
    assert wrong == []


def literal_patterns(tree: ast.AST) -> Iterator[tuple[int, str | bytes]]:
    """Line and text of every pattern that stands in a call of ``re``; of one made of parts, each part."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in USERS_OF_PATTERNS
            and node.args
        ):
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)):
                    yield node.lineno, part.value


def test_no_pattern_inside_a_function_has_such_a_form() -> None:
    wrong = []
    for path in sources():
        for line, pattern in literal_patterns(ast.parse(path.read_text())):
            text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
            try:
                bad = has_wrong_form(pattern)
            except re.error:  # a part alone
                bad = re.search(r"(?<!\\)\)(?:[*+?]|\{\d*,?\d*\})\+", text) is not None
            if bad:
                wrong.append(f"{path}:{line}: {pattern!r}")
    assert wrong == []


def test_a_run_of_words_ends_before_a_list() -> None:
    assert dlist.parse(b"%(A 1 B 2 C (x))")[0] == {b"A": b"1", b"B": b"2", b"C": [b"x"]}
    assert dlist.parse(b"(a b %(A 1) c {1}\r\nd)")[0] == [b"a", b"b", {b"A": b"1"}, b"c", b"d"]
    assert dlist.parse(b"(a \\b c )")[0] == [b"a", dlist.Flag(b"\\b"), b"c"]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 199, 200, 201, 401, 1000])
def test_runs_and_escapes_of_any_length_are_read_whole(count: int) -> None:
    words = [b"w%d" % number for number in range(count)]
    assert dlist.parse(b"(" + b" ".join(words) + b" (x))")[0] == [*words, [b"x"]]
    pairs = b" ".join(b"K%d %d" % (number, number) for number in range(count))
    assert dlist.parse(b"%(" + pairs + b" L (x))")[0] == {
        **{b"K%d" % number: b"%d" % number for number in range(count)},
        b"L": [b"x"],
    }
    text = b'\\"x' * count
    assert dlist.parse(b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"')[0] == text
    skipped = b'X "' + b"\\)" * count + b'{3+}"' + b' "a"' * count + b" w" * count + b"\r\nNOOP\r\n"
    assert skip(skipped) == b"NOOP\r\n"
    unfinished = b'X "' + b"\\)" * count + b"\\\nNOOP\r\n"
    assert skip(unfinished) == b"NOOP\r\n"
    argument = "\\" * count
    line = b'SUB "%s" b\n' % (b"\\\\" * count) if count > 400 else format_line("SUB", argument, "b")
    assert parse_lines(line) == [LogLine("SUB", (argument, "b"))]


def skip(data: bytes) -> bytes:
    """What is left behind the first line."""
    buffer = Buffer()
    buffer.append(data)
    assert LineSkipper().feed(buffer)
    return buffer.clear()


RECORD = (
    b"%(UID 7 MODSEQ 9 LAST_UPDATED 5 FLAGS (\\Seen) INTERNALDATE 3 SIZE 4"
    b" GUID 26b0a1c2d3e4f5061728394a5b6c7d8e9f001122"
)
REAL = b'%(ENTRY /comment USERID alice MODSEQ 3 VALUE "remember this")'
EMPTY = b'%(ENTRY /comment USERID "" MODSEQ 3 VALUE word)'
VIRTUAL = (
    b'%(ENTRY /vendor/cmu/cyrus-imapd/thrid USERID "" MODSEQ 0 VALUE 00000000000000ff)',
    b'%(ENTRY /vendor/cmu/cyrus-imapd/savedate USERID "" MODSEQ 0 VALUE 12)',
    b'%(ENTRY /vendor/cmu/cyrus-imapd/createdmodseq USERID "" MODSEQ 0 VALUE 13)',
)


@pytest.mark.parametrize(
    "script",
    [
        b"/**/keep;/***/stop;/* * / **/",
        b'keep; # /* "\nstop;',
        b"redirect text:\n.\n;",
        b"redirect text: # note\r\na\r\n..b\r\n.c\r\n.\r\n;stop;",
        b'redirect "";',
        b'redirect "a\\"\\\\";stop;',
        b'redirect "' + b"\\x" * 1001 + b'";',
    ],
)
def test_strings_and_comments_of_a_sieve_script(script: bytes) -> None:
    check_syntax(script)
    for end in range(len(script) - 1, len(script) - 5, -1):
        if script[:end].rstrip().endswith((b";", b"*/")):
            check_syntax(script[:end])


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (b"keep; /* *", "comment"),
        (b"/*/", "comment"),
        (b"keep; /* a */ */", "not expected"),
        (b'keep;\nredirect "a\\";', "line 2: the string"),
        (b'redirect "\\', "string"),
        (b"redirect text:\na\n.b", "one dot"),
        (b"redirect text:\n", "one dot"),
        (b"redirect text:\na.\n", "one dot"),
    ],
)
def test_what_a_sieve_script_leaves_open(script: bytes, problem: str) -> None:
    with pytest.raises(SyncBadSieve, match=problem):
        check_syntax(script)


@pytest.mark.parametrize("real", [(), (REAL,), (EMPTY, REAL)])
@pytest.mark.parametrize("virtual", range(8))
def test_the_fast_path_reads_a_record_as_the_slow_path_does(real: tuple[bytes, ...], virtual: int) -> None:
    chosen = [*real, *(item for bit, item in enumerate(VIRTUAL) if virtual >> bit & 1)]
    record = RECORD + (b" ANNOTATIONS (" + b" ".join(chosen) + b"))" if chosen else b")")
    slow = decode_record(dlist.parse(record)[0])
    assert decode_records(record) == [slow]
    second = record.replace(b"UID 7", b"UID 8")
    assert decode_records(record + b" " + second) == [slow, slow._replace(uid=8)]
    assert decode_records(encode_records([slow], server=False)) == [slow]


@pytest.mark.parametrize("text", [b"", b"1", b"1:2", b"1:*", b"1,2:4,9:*", b"4294967295"])
def test_sequence_sets(text: bytes) -> None:
    assert fields.sequence_set(text) == text.decode()


@pytest.mark.parametrize(
    "text", [b",", b"1,", b"1:", b"*", b"1:2:3", b"12345678901", b"1,x", b"x1", b"1,,2", b"1:2,:"]
)
def test_what_is_no_sequence_set(text: bytes) -> None:
    with pytest.raises(BadParameters):
        fields.sequence_set(text)


def refused(text: bytes) -> None:
    with pytest.raises((BadParameters, dlist.ParseError)):
        dlist.parse(text)


def bad_script(script: bytes) -> None:
    with pytest.raises(SyncBadSieve):
        check_syntax(script)


HOSTILE: dict[str, Callable[[int], object]] = {
    "escapes in a refused line": lambda size: skip(b'X "' + b"\\)" * (size // 2) + b'"\n'),
    "strings in a refused line": lambda size: skip(b'"\\"" ' * (size // 5) + b"\n"),
    "strings of many escapes in a refused line": lambda size: skip(
        (b'"' + b'\\"' * 21 + b'"') * (size // 44) + b"\n"
    ),
    "short words in a refused line": lambda size: skip(b"w " * (size // 2) + b"\n"),
    "braces in a refused line": lambda size: skip(b"{ " * (size // 2) + b"\n"),
    "short words in a list": lambda size: dlist.parse(b"(" + b"w " * (size // 2) + b")"),
    "keys and values": lambda size: dlist.parse(b"%(" + b"a b " * (size // 4) + b")"),
    "a list without an end": lambda size: refused(b"(" + b"w " * (size // 2)),
    "escapes in a list": lambda size: refused(b'("' + b"\\)" * (size // 2) + b'")'),
    "escapes in the action log": lambda size: parse_lines(b'SUB a "' + b"\\)" * (size // 2) + b'"\n'),
    "quotes in the action log": lambda size: parse_lines(b'SUB "' * (size // 5)),
    "words in the action log": lambda size: parse_lines(b"SUB a " * (size // 6)),
    "escapes in a Sieve script": lambda size: check_syntax(b'redirect "' + b"\\)" * (size // 2) + b'";'),
    "an open string of a Sieve script": lambda size: bad_script(b'redirect "' + b"\\)" * (size // 2)),
    "an open comment of a Sieve script": lambda size: bad_script(b"/*" + b"* /" * (size // 3)),
    "an open text of a Sieve script": lambda size: bad_script(b"redirect text:\n" + b"..\n" * (size // 3)),
    "blanks in the action log": lambda size: parse_lines(b"SUB " + b" " * size),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_input_takes_linear_time_and_little_memory(what: str) -> None:
    work = HOSTILE[what]
    small, large = 400_000, 1_600_000
    assert _seconds(work, large) < 8 * _seconds(work, small) + 0.1, "more than linear"
    tracemalloc.start()
    try:
        work(large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * large


def _seconds(work: Callable[[int], object], size: int) -> float:
    """CPU seconds, the best of three."""
    best = 1e9
    for _ in range(3):
        started = time.process_time()
        work(size)
        best = min(best, time.process_time() - started)
    return best
