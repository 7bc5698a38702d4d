"""What comes with an installation: the wheel's files, ./install, manual pages, completions and units."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import release.__main__ as release
from cyrus_sync.common import __version__
from release.completions import parsers
from release.pages import roff
from tests.test_console_scripts import SCRIPTS

ROOT = Path(__file__).parents[1]
SHARE = ROOT / "share"
PAGES = sorted(SHARE.glob("man/man?/*"))
UNITS = sorted(path for path in (ROOT / "etc").iterdir() if path.suffix in (".service", ".timer", ".path"))
MINUTES = 60


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * MINUTES,
        cwd=ROOT,
        env=os.environ | environment,
    )


def need(program: str) -> str:
    """The path of a program that not every machine has."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program}")
    return found


# -- what is kept beside its source


def test_manual_pages_and_completions_are_in_step() -> None:
    stale = [path for path, text in release.documents().items() if (ROOT / path).read_text() != text]
    assert not stale, "run: python -m release"
    assert {path.relative_to(ROOT) for path in SHARE.rglob("*") if path.is_file()} == set(release.documents())


def test_check_tells_what_is_not_in_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SHARE, tmp_path / "share")
    shutil.copytree(ROOT / "docs/man", tmp_path / "docs/man")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    page = tmp_path / "docs/man/sync_reset.8.md"
    page.write_text(page.read_text() + "\nOne more word.\n")
    (tmp_path / "share/man/man8/of_yesterday.8").touch()
    assert release.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert [line.split()[0] for line in said.splitlines()] == [
        "share/man/man8/of_yesterday.8",
        "share/man/man8/sync_reset.8",
    ]
    assert release.main([]) == 0
    assert release.main(["--check"]) == 0


def test_every_command_has_a_page_and_completions() -> None:
    assert {page.name for page in PAGES if page.suffix == ".8"} == {f"{name}.8" for name in SCRIPTS}
    assert set(parsers()) == set(SCRIPTS)


def test_a_table_becomes_a_list_and_dashes_stay_what_they_are() -> None:
    page = roff(
        "# x(8)\n\n## NAME\n\nx - try\n\n## FILES\n\nWith **--y**:\n\n| a | b |\n|---|---|\n| f | g |\n"
    )
    assert '.TH "x" "8"' in page
    assert ".TP\nf\ng" in page
    assert r"\f[B]\-\-y\f[R]" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("width", ["80", "132"])
def test_a_manual_page_renders_without_a_warning(page: Path, width: str) -> None:
    done = run(
        *(need("man"), "--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", page),
        **{"MANWIDTH": width, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^NAME\n +\S+ +- ", re.sub(r".\x08|\x1b\[\d+m", "", done.stdout), re.MULTILINE)


# -- completions, as shells use them

BASH = """
source "share/bash-completion/completions/$1"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["mailstore", "im"], ["import"]),
        (["mailstore", "import", "--cr"], ["--create"]),
        (["sync_client", "--stat"], ["--status"]),
        (["sync_client", "--status", "--format", ""], ["text", "json", "yaml"]),
        (["sync_client", "-C", "etc/imapd"], ["etc/imapd.conf.example"]),
        (["sync_server", "--ver"], ["--version"]),
        (["cyr_synclog", "--ver"], ["--version"]),
        (["sync_reset", "--ver"], ["--version"]),
        (["multitool", "mkre"], ["mkreplica"]),
        (["multitool", "mkreplica", "-ex"], ["-export"]),
        (["syncreplica", "-export", "-lim"], ["-limit"]),
        (["mkorder", "-data", "etc/imapd"], ["etc/imapd.conf.example"]),
        (["shipping_server", "-rec"], ["-receiver"]),
    ],
    ids=" ".join,
)
def test_bash_completes(typed: list[str], offered: list[str]) -> None:
    done = run(need("bash"), "--norc", "-c", BASH, "bash", *typed)
    assert done.stdout.split() == offered


@pytest.mark.parametrize(
    ("shell", "pattern"), [("zsh", "zsh/site-functions/*"), ("fish", "fish/vendor_completions.d/*")]
)
def test_other_shells_can_read_theirs(shell: str, pattern: str) -> None:
    files = sorted(SHARE.glob(pattern))
    assert len(files) == len(SCRIPTS)
    for file in files:
        done = run(need(shell), "-n", file)
        assert (done.returncode, done.stderr) == (0, ""), file


def test_fish_completes() -> None:
    lines = "source share/fish/vendor_completions.d/mailstore.fish; complete -C 'mailstore import --cr'"
    assert run(need("fish"), "--no-config", "-c", lines).stdout.startswith("--create\t")


# -- the wheel and ./install


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy, as building leaves files behind."""
    source, made = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns(".venv", ".git", "build", "*.egg-info", "__pycache__", "quickstart-data")
    shutil.copytree(ROOT, source, ignore=skip, symlinks=True)
    done = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", made, source)
    assert done.returncode == 0, done.stderr
    (path,) = made.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.timeout(10 * MINUTES)
def test_the_wheel_has_manual_pages_completions_units_examples_and_the_licence(
    wheel: zipfile.ZipFile,
) -> None:
    data = f"cyrus_sync-{__version__}.data/data"
    names = {name for name in wheel.namelist() if name.startswith(data)}
    assert {f"{data}/{path.relative_to(ROOT)}" for path in SHARE.rglob("*") if path.is_file()} <= names
    assert {f"{data}/lib/systemd/system/{unit.name}" for unit in UNITS} <= names
    examples = {f"{data}/share/doc/cyrus-sync/examples/{name}.conf.example" for name in ("imapd", "shipping")}
    assert examples <= names
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
    inside = {name.split("/")[0] for name in wheel.namelist()}
    assert inside == {"cyrus_sync", f"cyrus_sync-{__version__}.data", f"cyrus_sync-{__version__}.dist-info"}
    rooms = {name.split("/")[1] for name in wheel.namelist() if name.startswith("cyrus_sync/")}
    links = {link.name for link in (ROOT / "cyrus_sync").iterdir() if link.is_symlink()}
    assert rooms == {"__init__.py", *links}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ./install was done, twice, the first time with an extra."""
    prefix = tmp_path_factory.mktemp("install") / "prefix"
    for with_extra in (["--with", "s3"], []):
        done = run(ROOT / "install", "--prefix", prefix, *with_extra, PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        assert f"Installed cyrus-sync {__version__} in {prefix}" in done.stdout
    return prefix


@pytest.mark.timeout(20 * MINUTES)
def test_install_brings_commands_pages_completions_and_units_and_takes_them_out_again(prefix: Path) -> None:
    for name in SCRIPTS:
        assert run(prefix / "bin" / name, "--version").stdout == f"{name} (cyrus-sync) {__version__}\n"
    for path in SHARE.rglob("*"):
        if path.is_file():
            assert (prefix / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    if man := shutil.which("man"):
        assert "sync_client.8" in run(man, "-w", "sync_client", MANPATH=str(prefix / "share/man")).stdout
    _verify_units(prefix)
    python = prefix / "lib/cyrus-sync/current/bin/python"
    assert run(python, "-c", "import obstore").returncode == 0, "an update keeps what was asked for before"

    mail = prefix / "lib/cyrus-sync/mail"
    mail.write_text("not ours")
    done = run(ROOT / "install", "--uninstall", "--prefix", prefix)
    assert done.returncode == 0, done.stderr
    assert [path for path in prefix.rglob("*") if not path.is_dir()] == [mail]


def _verify_units(prefix: Path) -> None:
    units = sorted((prefix / "lib/systemd/system").iterdir())
    assert [unit.name for unit in units] == [unit.name for unit in UNITS]
    for unit in units:
        programs = re.findall(r"^ExecStart=(\S+)", unit.read_text(), re.MULTILINE)
        assert len(programs) == (unit.suffix == ".service")
        for program in programs:
            assert Path(program).parent == prefix / "bin" and os.access(program, os.X_OK)
        if analyze := shutil.which("systemd-analyze"):
            done = run(analyze, "verify", "--man=no", unit)
            assert str(unit) not in done.stderr and done.returncode == 0, done.stderr


def test_install_leaves_alone_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mailstore").write_text("somebody else's")
    done = run(ROOT / "install", "--uninstall", "--prefix", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bin/mailstore").read_text() == "somebody else's"


@pytest.mark.timeout(10 * MINUTES)
def test_install_refuses_to_replace_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mailstore").write_text("somebody else's")
    done = run(ROOT / "install", "--prefix", tmp_path, PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"install: {tmp_path}/bin/mailstore is there and not ours; nothing was changed\n"
    )
    assert (tmp_path / "bin/mailstore").read_text() == "somebody else's"
    assert not list(tmp_path.glob("lib/cyrus-sync/*"))


@pytest.mark.parametrize("words", [["--nonsense"], ["name"]])
def test_install_with_a_senseless_command_line_is_64(words: list[str]) -> None:
    done = run(ROOT / "install", *words)
    assert done.returncode == 64
    assert done.stderr.startswith("usage: ./install")


def test_the_units_of_a_channel_and_of_the_default_one_differ_in_the_channel_alone() -> None:
    def body(name: str) -> str:
        text = (ROOT / "etc" / name).read_text().partition("[Unit]")[2]
        return text.replace(" -n %i", "").replace(", channel %i", "")

    assert body("sync_client.service") == body("sync_client@.service")


def test_the_unit_for_a_real_cyrus_is_that_of_a_store_but_for_what_it_may_write_and_sees() -> None:
    def service(name: str) -> list[str]:
        body = (ROOT / "etc" / name).read_text().split("[Service]", 1)[1]
        return [line for line in body.splitlines() if line and not line.startswith("#")]

    ours, beside = service("sync_client.service"), service("sync_client-cyrus.service")
    # Whether Cyrus's own client runs is seen in /proc.
    assert [line for line in ours if line not in beside] == [
        "ReadWritePaths=/var/lib/cyrus /var/spool/cyrus",
        "ProtectProc=invisible",
    ]
    writable, readonly = [line for line in beside if line not in ours]
    assert writable == "ReadWritePaths=/var/lib/cyrus"
    # No file: Cyrus puts new ones in the place of its databases, and a mount would go on showing the old one.
    assert readonly == "ReadOnlyPaths=-/var/spool -/var/lib/cyrus/user -/var/lib/cyrus/quota"
