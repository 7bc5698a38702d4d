from pathlib import Path

import pytest

from cyrus_sync.common.config.imapdconf import read_settings
from cyrus_sync.common.errors import EX_CONFIG, ConfigError


def read(tmp_path: Path, text: str | bytes) -> dict[str, str]:
    path = tmp_path / "imapd.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {key: setting.value for key, setting in read_settings(path).items()}


def test_blanks_around_lines_and_values_do_not_count(tmp_path: Path) -> None:
    assert read(tmp_path, "  sync_host: \t rep.example  \r\n\n \t\nadmins:a b\n") == {
        "sync_host": "rep.example",
        "admins": "a b",
    }


def test_a_hash_begins_a_comment_only_at_the_start_of_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "#x: y\n   # z\nsync_password: a#b # c\n") == {"sync_password": "a#b # c"}


def test_names_are_lower_cased(tmp_path: Path) -> None:
    assert read(tmp_path, "SYNC_Host: Rep\n") == {"sync_host": "Rep"}


def test_a_backslash_at_the_end_joins_lines_and_inserts_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "admins:\\\n    value1 value2 \\\n   value3\n") == {
        "admins": "value1 value2    value3"
    }


def test_a_comment_goes_on_behind_a_backslash_too(tmp_path: Path) -> None:
    assert read(tmp_path, "# c \\\nsync_host: a\nsync_port: b\n") == {"sync_port": "b"}


def test_a_backslash_at_the_end_of_the_file_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, "sync_port: a\\") == {"sync_port": "a\\"}


def test_quotes_are_text(tmp_path: Path) -> None:
    assert read(tmp_path, 'servername: "a b"\n') == {"servername": '"a b"'}


def test_bytes_that_are_not_utf8_come_back_unchanged(tmp_path: Path) -> None:
    value = read(tmp_path, b"sync_password: gr\xfc\xdfe\n")["sync_password"]
    assert value.encode("utf-8", "surrogateescape") == b"gr\xfc\xdfe"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nsync_host : x\n", 2, "'sync_host' is not an option name followed by a colon"),
        ("\n\nnonsense\n", 3, "'nonsense' is not an option name followed by a colon"),
        ("sync_host:  \n", 1, "sync_host: the value is empty"),
        ("a: 1\nb: 2\nA: 3\n", 3, "a: given twice, first at "),
        ("@exclude: x\n", 1, "@exclude: no such directive, only @include is known"),
        ("a: 1\\\n2\n\nb b: 1\n", 4, "'b' is not an option name"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, text: str, line: int, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/imapd.conf:{line}: {problem}")
    assert caught.value.exit_status == EX_CONFIG


@pytest.mark.covers("imapd.conf", "@include")
def test_include_reads_another_file_in_that_place(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("b: 2\n")
    assert read(tmp_path, f"a: 1\n@include: {tmp_path}/more.conf\nc: 3\n") == {"a": "1", "b": "2", "c": "3"}
    assert list(read(tmp_path, f"a: 1\n@include: {tmp_path}/more.conf\nc: 3\n")) == ["a", "b", "c"]


@pytest.mark.covers("imapd.conf", "@include")
def test_including_a_file_twice_is_an_error_even_by_way_of_itself(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("b: 2\n")
    with pytest.raises(ConfigError, match=r"imapd\.conf:2: @include: .*more\.conf is included twice"):
        read(tmp_path, f"@include: {tmp_path}/more.conf\n@include: {tmp_path}/more.conf\n")
    with pytest.raises(ConfigError, match=r"imapd\.conf is included twice"):
        read(tmp_path, f"@include: {tmp_path}/imapd.conf\n")


def test_an_option_given_again_in_an_included_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("\nunknown: 2\n")
    with pytest.raises(ConfigError, match=r"more\.conf:2: unknown: given twice, first at .*imapd\.conf:1"):
        read(tmp_path, f"unknown: 1\n@include: {tmp_path}/more.conf\n")


def test_a_missing_file_is_named_with_the_line_that_wants_it(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"imapd\.conf:1: /nowhere/x: cannot read the configuration: No such"
    ):
        read(tmp_path, "@include: /nowhere/x\n")
    with pytest.raises(ConfigError, match=r"^/nowhere/y: cannot read"):
        read_settings("/nowhere/y")


def test_cyrus_prefix_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefixed = tmp_path / "prefix"
    inside = prefixed / str(tmp_path).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "imapd.conf").write_text("a: prefixed\n@include: " + str(tmp_path / "plain.conf") + "\n")
    (tmp_path / "plain.conf").write_text("b: plain\n")
    monkeypatch.setenv("CYRUS_PREFIX", str(prefixed))
    assert read(tmp_path, "a: plain\n") == {"a": "prefixed", "b": "plain"}


def test_a_value_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"imapd\.conf:1: configdirectory: the value holds a NUL"):
        read(tmp_path, b"configdirectory: /var/lib/cy\0rus\n")
