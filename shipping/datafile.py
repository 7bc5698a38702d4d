"""The data file of an order: looked at once, and what is done with it is done with that same file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cyrus_sync.common.directory import Directory


@dataclass(frozen=True, slots=True)
class DataFile:
    """Use as a context manager. `descriptor` is None if there is no file of that name."""

    directory: Directory
    name: str
    descriptor: int | None

    @classmethod
    def open(cls, directory: Directory, name: str) -> Self:
        """`Tampered` if it is anything but a plain file; a symbolic link is not followed."""
        try:
            return cls(directory, name, directory.open_plain(name))
        except FileNotFoundError:
            return cls(directory, name, None)

    @property
    def path(self) -> Path:
        return self.directory.path / self.name

    def remove(self) -> None:
        """Remove it, durably. `Tampered` if its name is another file by now, which is left alone."""
        if self.descriptor is not None:
            self.directory.remove(self.name, self.descriptor)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
