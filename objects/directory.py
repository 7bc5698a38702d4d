"""`DirectoryObjects`: objects as files of a directory: a mounted disk, or a share of another machine.

A key is the path of its file. A file gets its name when it is whole and on the disk.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cyrus_sync.common.errors import ObjectMissing, ObjectsUnavailable
from cyrus_sync.common.files import TEMPORARY, make_directories, sync_directory, temporary_in
from cyrus_sync.objects.store import PIECE, Content, Counted, Listed, Put, check_back, check_key, in_pieces

_UNFINISHED = 86400
"""Seconds after which an object that is not whole will not become so."""


class DirectoryObjects:
    """`ObjectStore` in a directory, which is made with the first object."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tidied = False

    @property
    def place(self) -> str:
        return f"file:{self._directory}"

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        path = self._path(key)
        pieces = Counted(in_pieces(content))
        with self._trouble(key):
            make_directories(path.parent)
            self._tidy()
            temporary = temporary_in(self._directory)
        try:
            with self._trouble(key):
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                file = open(descriptor, "wb")  # noqa: PTH123, SIM115 (a descriptor, for the mode; closed below)
            with file:
                for piece in pieces:  # What they raise is not the trouble of this directory.
                    with self._trouble(key):
                        file.write(piece)
                with self._trouble(key):
                    file.flush()
                    os.fsync(file.fileno())
            with self._trouble(key):
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        with self._trouble(key):
            sync_directory(path.parent)
        if check:
            check_back(self, key, pieces.total)
        return pieces.total

    def _tidy(self) -> None:
        """Remove what was not finished by somebody who was killed, once."""
        if self._tidied:
            return
        self._tidied = True
        for path in self._directory.glob(f"{TEMPORARY}*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _UNFINISHED:
                    path.unlink()

    def get(self, key: str) -> bytes:
        with self._trouble(key):
            return self._path(key).read_bytes()

    def pieces(self, key: str) -> Iterator[bytes]:
        with self._trouble(key):
            file = self._path(key).open("rb")
        with file:
            while True:
                with self._trouble(key):
                    data = file.read(PIECE)
                if not data:
                    return
                yield data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._trouble(key), self._path(key).open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    def size(self, key: str) -> int:
        with self._trouble(key):
            return self._path(key).stat().st_size

    def listed(self, folder: str = "") -> Iterator[Listed]:
        top = self._path(folder) if folder else self._directory
        with self._trouble(folder):
            self._check_there()
            for directory, folders, files in os.walk(top, onerror=_raise_unless_missing):
                folders.sort()
                for name in sorted(files):
                    path = Path(directory, name)
                    try:
                        about = path.stat()
                    except FileNotFoundError:
                        continue  # Deleted since.
                    if not name.startswith(TEMPORARY):
                        moment = datetime.fromtimestamp(about.st_mtime, UTC)
                        yield Listed(str(path.relative_to(self._directory)), about.st_size, moment)

    def folders(self, folder: str = "") -> list[str]:
        top = self._path(folder) if folder else self._directory
        with self._trouble(folder):
            self._check_there()
            try:
                found = [entry.name for entry in os.scandir(top) if entry.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(f"{folder}/{name}" if folder else name for name in found)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._trouble(key):
                path = self._path(key)
                path.unlink(missing_ok=True)
                self._drop_empty(path.parent)

    def _drop_empty(self, directory: Path) -> None:
        """Folders are there only for what is in them."""
        while directory != self._directory:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent

    def now(self) -> datetime:
        path = temporary_in(self._directory)
        with self._trouble(""):
            make_directories(self._directory)
            path.touch(0o600)
            try:
                return datetime.fromtimestamp(path.stat().st_mtime, UTC)
            finally:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        pass

    def _path(self, key: str) -> Path:
        return self._directory / check_key(key)

    def _check_there(self) -> None:
        """What lists nothing may be a disk that is not mounted."""
        if not self._directory.is_dir():
            raise ObjectsUnavailable(f"{self.place}: there is no such directory")

    @contextmanager
    def _trouble(self, key: str) -> Iterator[None]:
        where = f"{self.place}: {key}" if key else self.place
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if not self._directory.is_dir():
                raise ObjectsUnavailable(f"{where}: there is no such directory") from None
            raise ObjectMissing(f"{where}: no such object") from None
        except OSError as error:
            raise ObjectsUnavailable(f"{where}: {error.strerror or error}") from error


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
