"""What a disk refuses, in words for the administrator of the machine that it belongs to."""

from __future__ import annotations

import errno

_MEANINGS = {
    errno.ENOSPC: "no room left",
    errno.EDQUOT: "no room left",
    errno.EFBIG: "no room left",
    errno.EROFS: "cannot be written",
    errno.EACCES: "permission denied to this program's user",
    errno.EPERM: "permission denied to this program's user",
    errno.ENOENT: "gone, or its partition is not mounted",
    errno.EIO: "the disk cannot be read or written",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
}


def why(error: OSError, place: str = "mail store") -> str:
    """The reason, the system's own words, and the file; `place` where the error names none.

    >>> why(OSError(28, "No space left on device", "/mail/pack-000001.zst"))
    'no room left: No space left on device: /mail/pack-000001.zst'
    """
    parts = (_MEANINGS.get(error.errno or 0), error.strerror or str(error), error.filename or place)
    return ": ".join(str(part) for part in parts if part)
