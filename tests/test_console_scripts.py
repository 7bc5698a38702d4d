"""Every command that is installed: its version, its help, and its end when the output goes nowhere."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common import __version__
from cyrus_sync.mailstore.commands import COMMANDS as MAILSTORE
from cyrus_sync.multisite.commands import COMMANDS as MULTITOOL
from cyrus_sync.tool.commands import COMMANDS as TOOL

ROOT = Path(__file__).parents[1]
TIMEOUT = 60
"""Seconds that a process may take at most, on a machine under load."""


def console_scripts() -> dict[str, str]:
    """Of each command its entry point, ``module:function``."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(part.split(" = ") for part in lines)


SCRIPTS = console_scripts()
HELPS = [
    *([name, "--help"] for name in SCRIPTS),
    *(["mailstore", command, "--help"] for command in MAILSTORE),
    *(["cyrus-sync", command, "--help"] for command in TOOL),
    *(["multitool", command, "-help"] for command in (*MULTITOOL, "mkorder", "shipping_server")),
]


def run(
    words: list[str], redirection: str = "", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run a command as its console script does, with a `redirection` of the shell."""
    module, _, function = SCRIPTS[words[0]].partition(":")
    code = f"import sys\nfrom {module} import {function}\nsys.argv[0] = {words[0]!r}\nsys.exit({function}())"
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, *words[1:]],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.covers("sync_client: options", "--version")
@pytest.mark.covers("sync_server: options", "--version")
@pytest.mark.covers("cyr_synclog: options", "--version")
@pytest.mark.covers("sync_reset: options", "--version")
@pytest.mark.covers("mailstore: commands and options", "--version")
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("option", ["--version", "-version"])
def test_every_command_says_its_version(script: str, option: str) -> None:
    if option == "-version" and script not in ("multitool", "syncreplica", "mkorder", "shipping_server"):
        return
    done = run([script, option])
    assert (done.stdout, done.stderr) == (f"{script} (cyrus-sync) {__version__}\n", "")
    assert done.returncode == 0


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_a_help_that_cannot_be_printed_is_an_error(words: list[str]) -> None:
    done = run(words, ">/dev/full")
    assert done.stderr.endswith(": cannot write to standard output: No space left on device\n")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_with_a_closed_output_it_says_so(script: str, option: str) -> None:
    done = run([script, option], ">&-")
    assert done.stderr.endswith(": cannot write to standard output: Bad file descriptor\n")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_reader_who_has_seen_enough_is_no_error_to_speak_of(script: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run([script, "--help"], stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_senseless_command_line_is_64_even_where_nobody_hears_of_it(script: str) -> None:
    assert run([script, "--no-such-option"], "2>&-").returncode == 64
    done = run([script, "--no-such-option"])
    assert done.returncode == 64
    assert done.stderr.startswith(f"{script}: ") and ("usage: " in done.stderr or "-help" in done.stderr)
    assert "Traceback" not in done.stderr
