"""Asking whoever runs a command whether that is meant."""

from __future__ import annotations

import sys


def agreed(question: str) -> bool:
    """Ask on standard error; True for *y* and *yes*. Where nobody answers, nothing is agreed."""
    print(f"{question} [no] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
