"""Figures in a file for node_exporter: whole at any time, readable for everybody, not synced."""

from __future__ import annotations

import os
from pathlib import Path


def write_text_file(path: Path, text: bytes) -> None:
    """Replace the file. Raises OSError. node_exporter passes the unfinished one over, as its name does not
    end in ``.prom``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
