import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common import sieve
from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.names import BadName

RECORDED = (
    b"From: <alice@master.lab>\r\nSubject: main\r\nDate: Sat, 21 Nov 2026 05:45:36 +0000\r\n"
    b"Message-ID: <5e04e606c5073c5392c89fb4686508217361f743@master.lab>\r\n"
    b"Content-Type: application/sieve; charset=utf-8\r\nContent-Length: 89\r\n"
    b'Content-Disposition: attachment;\r\n\tfilename="w93uj8o04k47bfsrgo6pkeav.sieve"\r\n'
    b"MIME-Version: 1.0\r\n\r\n"
    b'require ["fileinto"];\r\nif header :contains "subject" "list" { fileinto "INBOX/lists"; }\r\n'
)
SCRIPT = RECORDED[-89:]
NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\u2028\u2029"),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", ".."))


def test_the_message_is_the_one_that_cyrus_writes() -> None:
    made = sieve.to_message(
        "main",
        SCRIPT,
        userid="alice",
        servername="master.lab",
        when=1795239936,
        script_id="w93uj8o04k47bfsrgo6pkeav",
    )
    assert made == RECORDED


def test_a_script_comes_out_of_its_message_unchanged() -> None:
    assert sieve.from_message(RECORDED) == sieve.Script("main", SCRIPT)
    assert sieve.content_of(RECORDED) == SCRIPT


def test_every_script_gets_an_id_of_its_own() -> None:
    made = [sieve.to_message("a", b"keep;", userid="a@b.example", servername="x", when=0) for _ in range(2)]
    ids = [re.findall(rb'filename="([a-z0-9]{24})\.sieve"', message) for message in made]
    assert ids[0] != ids[1] and len(ids[0]) == 1
    assert made[0].startswith(b"From: <a@b.example>\r\n")


@given(NAMES, st.binary(max_size=200))
def test_any_name_and_any_content_survive_the_message(name: str, content: bytes) -> None:
    message = sieve.to_message(name, content, userid="al", servername="x", when=1)
    assert sieve.from_message(message) == sieve.Script(name, content)
    header = message[: message.index(b"\r\n\r\n")]
    assert b"\n" not in re.sub(rb"\r\n(?=[ \tA-Z])", b"", header)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Gr\u00fc\u00dfe"),
        (b"=?ISO-8859-1?Q?Gr=FC=DFe?=", "Gr\u00fc\u00dfe"),
        ("Gr\u00fc\u00dfe".encode(), "Gr\u00fc\u00dfe"),
        (b"=?utf-8?b?5pel?=\r\n =?utf-8?b?5pys?=", "\u65e5\u672c"),
        (b"=?nonsense?q?x?=", "=?nonsense?q?x?="),
        (b"two words", "two words"),
    ],
)
def test_subjects_of_other_writers_are_understood(subject: bytes, name: str) -> None:
    assert sieve.from_message(b"X: y\r\nSUBJECT:  " + subject + b"\r\n\r\nkeep;").name == name


@pytest.mark.parametrize("message", [b"", b"\r\n\r\nkeep;", b"Subject:\r\n\r\nkeep;", b"X: y\n\nSubject: z"])
def test_a_message_without_a_subject_has_no_script(message: bytes) -> None:
    with pytest.raises(SyncBadSieve):
        sieve.from_message(message)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\nb", "a\0", "x\x85y", "x" * 513, "a\u2028b", "\udc80"]
)
def test_names_that_no_script_has(name: str) -> None:
    with pytest.raises(BadName):
        sieve.check_name(name)


def test_file_names_of_the_sieve_commands() -> None:
    assert sieve.script_filename("main") == "main.script"
    assert sieve.bytecode_filename("main") == "main.bc"
    assert sieve.name_of("a.b.script") == "a.b"
    assert sieve.name_of("main.bc") == "main"
    assert sieve.name_of("defaultbc") is None
    assert sieve.name_of(".script") is None


GOOD = [
    "",
    "# only a comment",
    "keep;",
    "KEEP ;\r\n",
    SCRIPT.decode(),
    'require "a"; require ["b", "c"]; stop;',
    'if allof (size :over 100K, not header :is ["a","b"] "x") { discard; } elsif true { stop; } else { }',
    "vacation :days 7 text: # note\r\nHello\r\n..dot\r\n.\r\n;\r\nkeep;",
    '/* a ** comment */ if exists ["x"] { /* in */ keep; # c\n}',
    'redirect "a\\"b\\\\c";',
    'fileinto "Gr\u00fc\u00dfe";',
    'newcommand :tag 5 ["x"] anyof(a, b(c), d :e "f") { inner; }',
    "if not not not true { keep; }",
    "\ufeffkeep;",
]

BAD = [
    ("keep", 1, "the script ends where a semicolon is expected"),
    ("keep;\nif { keep; }", 2, "if takes one test"),
    ("if true keep;", 1, "a block behind if is expected"),
    ("if true\n{ keep; ", 2, "the block that began here is not closed"),
    ("keep; }", 1, "a } without its {"),
    ('fileinto "a\nb', 1, "the string that begins here is not closed"),
    ("keep; /* x\n", 1, "the comment that begins here is not closed"),
    ("vacation text:\nhello\n", 1, "does not end with a line of one dot"),
    ("keep;\n\nelse { keep; }", 3, "else without an if before it"),
    ("else { }", 1, "else without an if"),
    ('keep;\nrequire "x";', 2, "require stands only at the beginning"),
    ('if true { require "x"; }', 1, "require stands only at the beginning"),
    ("if header :is [ { }", 1, "a string is expected"),
    ('if header ["a" "b"] { }', 1, 'a comma or ] is expected, not "b"'),
    ("if anyof (true; false) { }", 1, "a comma or ) is expected"),
    ("if anyof () { }", 1, "a test is expected"),
    ("if (true, false) { }", 1, "if takes one test"),
    ("keep;\n  %;", 2, "is not expected here"),
    ("keep; \0", 1, "there is a NUL octet"),
    ("12abc;", 1, "is not expected here"),
    (";", 1, "a command is expected"),
]


@pytest.mark.parametrize("script", GOOD)
def test_a_script_that_follows_the_grammar_is_accepted(script: str) -> None:
    sieve.check_syntax(script.encode())


@pytest.mark.parametrize(("script", "line", "problem"), BAD)
def test_a_script_that_does_not_is_refused_with_its_line(script: str, line: int, problem: str) -> None:
    with pytest.raises(SyncBadSieve) as caught:
        sieve.check_syntax(script.encode())
    assert str(caught.value).startswith(f"line {line}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "script", [b"if not " * 40000, b"if true {" * 40000, b"x (" * 40000, b'"' + b"a" * 10**6]
)
def test_nesting_and_size_are_no_attack(script: bytes) -> None:
    with pytest.raises(SyncBadSieve):
        sieve.check_syntax(script)


@given(st.text('ift rue{}[]()";:,.#/*\\\n5K', max_size=80))
def test_any_text_is_either_good_or_refused(script: str) -> None:
    try:
        sieve.check_syntax(script.encode())
    except SyncBadSieve as error:
        assert re.match(r"line \d+: ", str(error))


def test_the_recorded_conversations_hold_no_script_that_we_refuse() -> None:
    recordings = sorted((Path(__file__).parents[1] / "data").rglob("*rolling-sieve*.c2s.bin"))
    if not recordings:
        pytest.skip("the recorded conversations are not in tests/data")
    header = rb"Content-Type: application/sieve.*?Content-Length: (\d+)\r\n.*?\r\n\r\n"
    found = list(re.finditer(header, recordings[0].read_bytes(), re.DOTALL))
    assert found
    for match in found:
        sieve.check_syntax(match.string[match.end() : match.end() + int(match[1])])
