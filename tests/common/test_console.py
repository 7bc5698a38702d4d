"""Commands are ended quietly by Ctrl-C, from the first moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cyrus_sync.common.errors import EX_INTERRUPTED

ROOT = Path(__file__).parents[2]


def started(module: Path, text: str) -> subprocess.Popen[str]:
    """A command whose module says `text`, once it is being loaded or runs and has said a line."""
    module.write_text(text)
    code = f"import sys; sys.path.insert(0, {str(module.parent)!r}); from common import console; "
    command = [sys.executable, "-c", f"{code}sys.exit(console._run({module.stem!r}))"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_while_a_command_is_loaded_there_is_no_traceback(tmp_path: Path) -> None:
    process = started(tmp_path / "slow.py", "import time\nprint('here', flush=True)\ntime.sleep(600)")
    assert interrupted(process) == (-signal.SIGINT, "")


def test_a_command_that_is_loaded_hears_of_it_itself(tmp_path: Path) -> None:
    process = started(
        tmp_path / "quick.py",
        "import time\ndef main():\n    try:\n        print('here', flush=True)\n        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n        return 7",
    )
    assert interrupted(process) == (7, "")


def test_what_a_command_does_not_hear_of_is_quiet_too(tmp_path: Path) -> None:
    process = started(
        tmp_path / "deaf.py", "import time\ndef main():\n    print('here', flush=True)\n    time.sleep(600)"
    )
    assert interrupted(process) == (EX_INTERRUPTED, "")


def test_whoever_ignores_it_goes_on_doing_so(tmp_path: Path) -> None:
    module = tmp_path / "ignoring.py"
    module.write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
        "def main():\n    return 5 if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else 6"
    )
    code = (
        f"import signal, sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from common import console; sys.exit(console._run('ignoring'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 5


def test_what_a_command_has_loaded_is_not_looked_through_for_garbage(tmp_path: Path) -> None:
    (tmp_path / "big.py").write_text(
        "import gc\ndef main():\n    print(gc.get_freeze_count() > 1000, gc.get_threshold()[0] > 10_000)"
        "\n    return 0"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from cyrus_sync.common import console; sys.exit(console._run('big'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "True True\n"
