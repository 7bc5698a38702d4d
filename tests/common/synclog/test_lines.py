import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.synclog.lines import (
    ARGUMENTS,
    MAX_LINE,
    LogLine,
    UnloggableName,
    format_line,
    parse_lines,
)

NAMES = st.text(st.characters(blacklist_characters="\r\n\x00", blacklist_categories=("Cs",)), max_size=40)
LINES = st.sampled_from(sorted(ARGUMENTS)).flatmap(
    lambda kind: st.tuples(*[NAMES] * ARGUMENTS[kind]).map(lambda args: LogLine(kind, args))
)


@pytest.mark.parametrize(
    ("kind", "args", "line"),
    [
        ("MAILBOX", ("user.al.My Folder",), b'MAILBOX "user.al.My Folder"\n'),
        ("SUB", ("al", "user.al.x"), b"SUB al user.al.x\n"),
        ("ANNOTATION", ("",), b'ANNOTATION ""\n'),
        ("MAILBOX", ("user.al.(x)",), b'MAILBOX "user.al.(x)"\n'),
        ("MAILBOX", ('user.al.a"b\\c{d}',), b'MAILBOX "user.al.a\\"b\\\\c\\{d\\}"\n'),
        ("MAILBOX", ("user.al.gr\u00fcn",), "MAILBOX user.al.gr\u00fcn\n".encode()),
        ("MAILBOX", ("user.al.a%b*c'd",), b"MAILBOX user.al.a%b*c'd\n"),
    ],
)
def test_arguments_are_quoted_only_where_they_must_be(kind: str, args: tuple[str, ...], line: bytes) -> None:
    assert format_line(kind, *args) == line
    assert parse_lines(line) == [LogLine(kind, args)]


@given(st.lists(LINES, max_size=8))
def test_what_was_written_is_read_back(lines: list[LogLine]) -> None:
    problems: list[str] = []
    data = b"".join(format_line(line.type, *line.args) for line in lines)
    assert parse_lines(data, lambda line, problem: problems.append(problem)) == lines
    assert problems == []


@given(st.binary(max_size=200), st.lists(LINES, min_size=1, max_size=3))
def test_noise_never_takes_the_lines_behind_it_away(noise: bytes, lines: list[LogLine]) -> None:
    noise = noise.replace(b"{", b"<")
    data = noise + b"\n" + b"".join(format_line(line.type, *line.args) for line in lines)
    assert parse_lines(data)[-len(lines) :] == lines


@given(st.binary(max_size=300))
def test_no_bytes_at_all_do_harm(data: bytes) -> None:
    for line in parse_lines(data, lambda line, problem: None):
        assert len(line.args) == ARGUMENTS[line.type]


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\0b"])
def test_a_name_with_a_line_end_cannot_be_logged(name: str) -> None:
    with pytest.raises(UnloggableName):
        format_line("MAILBOX", name)


def test_a_line_has_a_greatest_length() -> None:
    assert len(format_line("USER", "x" * (MAX_LINE - 6))) == MAX_LINE
    with pytest.raises(UnloggableName, match="too long"):
        format_line("USER", "x" * (MAX_LINE - 5))


def test_a_writer_with_the_wrong_number_of_arguments_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="SUB with 1 arguments"):
        format_line("SUB", "al")
    with pytest.raises(ValueError, match="NOSUCH"):
        format_line("NOSUCH", "al")


def test_types_are_read_in_any_case() -> None:
    assert parse_lines(b"mailbox user.a\nSub al user.al\n") == [
        LogLine("MAILBOX", ("user.a",)),
        LogLine("SUB", ("al", "user.al")),
    ]


def test_carriage_returns_and_a_missing_line_end_do_no_harm() -> None:
    assert parse_lines(b"USER al\r\nUSER bo\r\n\r\nUSER cy") == [
        LogLine("USER", ("al",)),
        LogLine("USER", ("bo",)),
        LogLine("USER", ("cy",)),
    ]


def test_literals_are_read_even_with_line_ends_inside() -> None:
    data = b"USER al\nSEEN {2+}\r\nbo {5}\r\na\nb c\nUSER cy\nMAILBOX {4}\nx\xc3\xbcy\nUSER di\n"
    problems: list[tuple[bytes, str]] = []
    assert parse_lines(data, lambda line, problem: problems.append((line, problem))) == [
        LogLine("USER", ("al",)),
        LogLine("SEEN", ("bo", "a\nb c")),
        LogLine("USER", ("cy",)),
        LogLine("MAILBOX", ("x\u00fcy",)),
        LogLine("USER", ("di",)),
    ]
    assert problems == []


def test_what_cannot_be_read_is_reported_and_passed_over() -> None:
    data = (
        b'USER al\nNEWTYPE x\nMAILBOX\nMAILBOX a b\nSUB x\nUSER (x)\n \nUSER "x\n'
        b"123 x\nUSER {2+}\nab\nUSER {2}\nabcd\nUSER bo\nUSER {9}\nab"
    )
    problems: list[tuple[bytes, str]] = []
    lines = parse_lines(data, lambda line, problem: problems.append((line, problem)))
    assert lines == [LogLine("USER", ("al",)), LogLine("USER", ("ab",)), LogLine("USER", ("bo",))]
    assert problems == [
        (b"NEWTYPE x", "unknown type NEWTYPE"),
        (b"MAILBOX", "cannot be read"),
        (b"MAILBOX a b", "MAILBOX has 1 argument(s), not 2"),
        (b"SUB x", "SUB has 2 argument(s), not 1"),
        (b"USER (x)", "cannot be read"),
        (b'USER "x', "cannot be read"),
        (b"123 x", "cannot be read"),
        (b"USER {2}\nabcd", "USER has 1 argument(s), not 2"),
        (b"USER {9}\nab", "literal cut short"),
    ]


def test_bytes_that_are_not_utf8_are_kept() -> None:
    (line,) = parse_lines(b"MAILBOX user.\xff\n")
    assert format_line(line.type, *line.args) == b"MAILBOX user.\xff\n"


def test_a_hundred_thousand_lines_are_read_in_a_moment() -> None:
    data = b"".join(
        format_line("MAILBOX", f"user.u{n}.Work") + format_line("SEEN", f"u{n} x", "6b0130016b013001")
        for n in range(50_000)
    )
    seconds = []
    for _ in range(3):
        started = time.process_time()
        assert len(parse_lines(data)) == 100_000
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0, f"0.2 s is usual, not {seconds}"
