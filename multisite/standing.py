"""Where this replica stands: its own epoch row, in a file that may be read while a command is at work.

The text of the file is the answer to a sibling that asks (``lsepoch -actual``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cyrus_sync.common.files import write_over
from cyrus_sync.multisite import plain_files
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.packet.values import MAX_OPERATION

FILE = "epochs.yaml"


@dataclass(frozen=True, slots=True)
class Standing:
    """The replica with the id `replica`, called `name`, has the operations of each origin up to those in
    `row`. While it is being restored (`restoring`), its own may be others than those of the same numbers
    elsewhere."""

    family: str
    replica: str
    name: str
    incarnation: int
    row: Mapping[str, int]
    restoring: bool = False

    def text(self) -> bytes:
        """YAML, which `parse_standing` reads."""
        values = {
            "family": self.family,
            "replica": self.replica,
            "name": self.name,
            "incarnation": self.incarnation,
            "row": dict(sorted(self.row.items())),
        }
        if self.restoring:
            values["restoring"] = True
        return plain_files.dump(values)


def standing_of(family: Family, row: Mapping[str, int]) -> Standing:
    """The standing of the replica that has this family file and this own row."""
    myself = family.myself
    return Standing(family.id, myself.id, myself.name, myself.incarnation, row, bool(family.restoring))


def parse_standing(text: bytes) -> Standing:
    """Read the answer of a sibling. Raises `MultisiteError` for anything else."""
    try:
        values: Any = yaml.safe_load(text)
        row = {str(origin): _count(number) for origin, number in values["row"].items()}
        return Standing(
            str(values["family"]),
            str(values["replica"]),
            str(values["name"]),
            _count(values["incarnation"]),
            row,
            values.get("restoring") is True,
        )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise MultisiteError(f"the answer is not about epochs: {error}") from None


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_OPERATION:
        raise ValueError(f"{value!r} is not a number of operations")
    return value


def write_standing(directory: Path, standing: Standing) -> None:
    """Replace the file, durably, if it says something else. Raises OSError."""
    path, text = directory / FILE, standing.text()
    if path.exists() and path.read_bytes() == text:
        return
    write_over(path, text, 0o600)
