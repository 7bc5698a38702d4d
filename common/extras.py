"""What a person types who wants something for which a library is lacking.

Extras bring the libraries that few need; ``setup.cfg`` says which. The Debian package has all of them.
"""

from __future__ import annotations

import re
import shlex
import sys


def lacking(extra: str, name: str) -> str:
    """That the package `name`, which the extra brings, is not installed, and what to type: a command for the
    environment of this very program."""
    wanted = " ".join(shlex.quote(one) for one in _packages(extra)) or shlex.quote(f"cyrus-sync[{extra}]")
    python = shlex.quote(sys.executable)
    return (
        f"needs the Python package {name}, which is not installed: {python} -m pip install {wanted}"
        f" (or, in a checkout: ./install --with {extra})"
    )


def _packages(extra: str) -> list[str]:
    """The requirements of an extra, as this installation knows them."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        known = requires("cyrus-sync") or []
    except PackageNotFoundError:
        return []
    marked = re.compile(rf"""extra == ['"]{re.escape(extra)}['"]""")
    return [one.partition(";")[0].strip() for one in known if marked.search(one)]
