"""From a command line to an exit status, whatever becomes of the work and of the output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common import __version__
from cyrus_sync.common.commands import Parser, add_version, described, reason, run_command
from cyrus_sync.common.errors import ConfigError, StoreCorrupt, StoreError, UsageError

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {
    "PYTHONPATH": str(Path(__file__).parents[2])
}
TIMEOUT = 60
"""Seconds that a process may take at most, on a machine under load."""


def work_raising(error: BaseException) -> Callable[[list[str]], int]:
    def work(_words: list[str]) -> int:
        raise error

    return work


# -- errors


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("-x and -y exclude each other"), 64, "-x and -y exclude each other"),
        (ConfigError("imapd.conf:3: bad"), 78, "imapd.conf:3: bad"),
        (StoreError("no room").at(user="alice"), 75, "no room [user=alice]"),
        (StoreCorrupt("damaged"), 75, "damaged"),
        (PermissionError(13, "Permission denied", "/spool/x"), 75, "/spool/x: Permission denied"),
        (OSError(28, "No space left on device"), 75, "No space left on device"),
        (MemoryError(), 75, "out of memory"),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_its_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("example", work_raising(error), []) == status
    assert capsys.readouterr().err == (f"example: {said}\n" if said else "")


def test_an_error_of_ours_has_a_traceback_and_ends_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("example", work_raising(KeyError("x")), []) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1] == "example: internal error: KeyError: 'x'"


def test_an_error_of_the_system_names_both_of_its_files() -> None:
    assert described(OSError(18, "Invalid cross-device link", "a", None, b"b")) == (
        "a -> b: Invalid cross-device link"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/a"), "No such file or directory"),
        (FileNotFoundError(2, "No such file or directory", Path("/b")), "/b: No such file or directory"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "/a -> /b: Invalid cross-device link"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), ""),
        (ValueError("no number"), "no number"),
    ],
)
def test_a_reason_names_what_has_not_been_said_and_no_number(error: Exception, said: str) -> None:
    assert reason(error, Path("/a")) == said


def test_a_senseless_command_line_is_said_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="example part")
    assert run_command("example", lambda words: len(vars(parser.parse_args(words))), ["-x"]) == 64
    assert capsys.readouterr().err.startswith(
        "example part: unrecognized arguments: -x\nusage: example part "
    )


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="example")
    add_version(parser)
    assert run_command("example", lambda words: len(vars(parser.parse_args(words))), ["--version"]) == 0
    assert capsys.readouterr().out == f"example (cyrus-sync) {__version__}\n"


# -- output, in processes of their own


def script(tmp_path: Path, body: str) -> list[str]:
    """The command line of a command whose work is `body`."""
    path = tmp_path / "example.py"
    path.write_text(
        "import os, sys, time\nfrom common.commands import complain, disregard_output, run_command\n\n"
        f"def work(words):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n\n"
        "sys.exit(run_command('example', work))\n"
    )
    return [sys.executable, str(path)]


def run(
    command: list[str], redirection: str = "", *, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        preexec_fn=before,
        env=ENVIRONMENT,
    )


def without_a_reader() -> None:
    """In the child: standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


@pytest.mark.parametrize(
    "body",
    [
        "print('a line'); return 0",
        "print('a line', flush=True); return 0",
        "sys.stdout.buffer.write(b'x' * 1_000_000); return 0",
        "print('x' * 1_000_000); return 0",
    ],
)
def test_output_that_nobody_reads_ends_the_command_quietly(tmp_path: Path, body: str) -> None:
    done = run(script(tmp_path, body), before=without_a_reader)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("body", ["print('a line'); return 0", "print('x' * 1_000_000); return 0"])
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_output_that_is_lost_is_said_and_no_success(
    tmp_path: Path, body: str, redirection: str, reason: str
) -> None:
    done = run(script(tmp_path, body), redirection)
    assert (done.returncode, done.stderr) == (1, f"example: cannot write to standard output: {reason}\n")


def test_a_failure_keeps_its_status_when_output_is_lost(tmp_path: Path) -> None:
    assert run(script(tmp_path, "print('a line'); return 78"), ">/dev/full").returncode == 78


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&-"])
def test_who_prints_nothing_needs_no_output(tmp_path: Path, redirection: str) -> None:
    done = run(script(tmp_path, "return 0"), redirection)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "2>&- >&-", "2>/dev/full >/dev/full"])
def test_what_must_not_be_done_twice_succeeds_without_output(tmp_path: Path, redirection: str) -> None:
    body = "disregard_output(); print('done'); print('x' * 1_000_000, flush=True); return 0"
    done = run(script(tmp_path, body), redirection)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_the_work_goes_on_when_nobody_hears_complaints(tmp_path: Path, redirection: str) -> None:
    body = """
        for number in range(100):
            complain("example", "x" * 1000)
        sys.stderr.isatty()
        print("the result")
        return 1
    """
    done = run(script(tmp_path, body), redirection)
    assert (done.returncode, done.stdout) == (1, "the result\n")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    body = "fd = os.open('mail', os.O_CREAT | os.O_WRONLY); os.system('echo astray'); return fd"
    command = script(tmp_path, f"os.chdir({str(tmp_path)!r}); {body}")
    done = run(command, "<&- >&- 2>&-")
    assert done.returncode > 2
    assert (tmp_path / "mail").read_bytes() == b""


def test_ctrl_c_is_quiet_and_130(tmp_path: Path) -> None:
    command = script(tmp_path, "print('ready', flush=True); time.sleep(600); return 0")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, said) == (130, "")


def test_what_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    command = ["env", "PYTHONIOENCODING=ascii", *script(tmp_path, "print('Entw\\u00fcrfe'); return 0")]
    done = run(command)
    assert (done.returncode, done.stdout) == (0, "Entw\\xfcrfe\n")
