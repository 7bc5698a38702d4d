"""``python -m release [--check]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from release import completions, pages

ROOT = Path(__file__).parents[1]
SHARE = Path("share")


def documents() -> dict[Path, str]:
    """Every file below ``share/``, and what has to be in it."""
    return {
        SHARE / path: text for part in (pages, completions) for path, text in part.documents(ROOT).items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check ``share/``."""
    arguments = argparse.ArgumentParser(prog="python -m release", description="Write share/ anew.")
    arguments.add_argument("--check", action="store_true", help="write nothing, exit 1 if not in step")
    check = arguments.parse_args(argv).check
    wanted = documents()
    there = {path.relative_to(ROOT) for path in (ROOT / SHARE).rglob("*") if path.is_file()}
    stale = [path for path, text in wanted.items() if path not in there or _read(path) != text]
    stale += there - wanted.keys()
    for path in sorted(stale):
        if check:
            print(f"{path} is not in step (python -m release)", file=sys.stderr)
        elif path in wanted:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
            print(f"wrote {path}")
        else:
            (ROOT / path).unlink()
            print(f"removed {path}")
    return int(check and bool(stale))


def _read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
