"""Twisted without what most runs do not need: half of the time in which a short command starts is loading.

Its sockets can do TLS, for which they load OpenSSL's bindings and the whole of `cryptography`, even where
nobody says STARTTLS. Where these bindings are missing it does without (as it says itself), and
`common.wire.tls` puts TLS on such a socket when the time comes. It also has another name for the library's
cookies, which come with an HTTP client and everything about e-mail.

To be called when a process begins, before anything is loaded; where that was not done, all is as usual.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_TLS = "OpenSSL"
_HARDLY_USED = ("http.cookiejar",)


def begin_lean() -> None:
    """TLS is loaded by `with_tls` only, modules that hardly anybody uses when somebody does."""
    sys.modules.setdefault(_TLS, None)  # type: ignore[arg-type]  # an import of it is an ImportError
    for name in _HARDLY_USED:
        _put_off(name)


def with_tls() -> None:
    """OpenSSL's bindings may be loaded from now on."""
    if sys.modules.get(_TLS, sys) is None:
        del sys.modules[_TLS]


def _put_off(name: str) -> None:
    """Load a module when something of it is used. (The library's own `LazyLoader` loads it when it is
    imported, up to Python 3.11.)"""
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def found(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), attribute)

    stand_in.__getattr__ = found  # type: ignore[method-assign] # of a module it is an attribute (PEP 562)
    sys.modules[name] = stand_in
