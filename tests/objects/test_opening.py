"""Which object store is meant, and with whose key it is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, UsageError
from cyrus_sync.objects.credentials import Credentials, usual_credentials
from cyrus_sync.objects.opening import Target, open_objects, parse_target


def _config(tmp_path: Path, *lines: str) -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text("\n".join((f"configdirectory: {tmp_path}", *lines)) + "\n")
    return Config.load(path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3:", Target("s3")),
        ("s3://", Target("s3")),
        ("s3:bucket", Target("s3", "bucket", "")),
        ("s3://bucket/a/b/", Target("s3", "bucket", "a/b")),
        ("file:/backup", Target("file", path="/backup")),
    ],
)
def test_targets_are_typed_as_elsewhere(typed: str, meant: Target) -> None:
    assert parse_target(typed) == meant


@pytest.mark.parametrize("typed", ["", "s3", "file:", "https://bucket", "/backup"])
def test_anything_else_is_no_target(typed: str) -> None:
    with pytest.raises(UsageError, match="neither s3:"):
        parse_target(typed)


@pytest.mark.covers("imapd.conf", "s3_endpoint")
def test_the_place_is_what_the_configuration_says(tmp_path: Path) -> None:
    lines = ["s3_bucket: mail", "s3_prefix: north/", "s3_access_key: a", "s3_secret_key: b"]
    config = _config(tmp_path, *lines, "s3_endpoint: https://s3.example.org/")
    assert open_objects(config).place == "s3://mail/north at https://s3.example.org"
    assert open_objects(config, "s3:other").place == "s3://other at https://s3.example.org"
    assert open_objects(config, "s3:other/x").place == "s3://other/x at https://s3.example.org"
    assert open_objects(config, f"file:{tmp_path}").place == f"file:{tmp_path}"
    at_amazon = _config(tmp_path, *lines, "s3_region: eu-central-1")
    assert open_objects(at_amazon).place == "s3://mail/north in eu-central-1"


@pytest.mark.covers("imapd.conf", "s3_access_key")
def test_half_a_key_and_no_bucket_are_errors_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"imapd.conf:2: s3_access_key: goes with s3_secret_key"):
        open_objects(_config(tmp_path, "s3_access_key: a", "s3_bucket: mail"))
    with pytest.raises(ConfigError, match="s3_bucket: not set"):
        open_objects(_config(tmp_path))


def test_who_lacks_the_library_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"-m pip install 'obstore>=0\.8' .*\./install --with s3"):
        open_objects(_config(tmp_path, "s3_bucket: mail"))


def test_a_secret_that_everybody_may_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\ns3_secret_key: b\n")
    path.chmod(0o644)
    Config.load(path)
    assert "everybody may read s3_secret_key" in capsys.readouterr().err


# -- keys that are not in imapd.conf


@pytest.fixture
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


FILE = """[default]
aws_access_key_id = AKIA
aws_secret_access_key = s%cret
[other]
aws_access_key_id = B
aws_secret_access_key = C
aws_session_token = D
[half]
aws_access_key_id = B
"""


@pytest.mark.usefixtures("_bare")
def test_the_file_of_aws_configure_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usual_credentials() == Credentials()
    (tmp_path / "credentials").write_text(FILE)
    assert usual_credentials() == Credentials("AKIA", "s%cret")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert usual_credentials() == Credentials("B", "C", "D")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from the environment")
    assert usual_credentials() == Credentials()


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize(
    ("profile", "said"), [("half", "lacks aws_access_key_id or"), ("never", r"no profile \[never\]")]
)
def test_a_profile_that_will_not_do_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, said: str
) -> None:
    (tmp_path / "credentials").write_text(FILE)
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(ConfigError, match=said):
        usual_credentials()
