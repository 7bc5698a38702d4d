"""Twisted without what most runs do not need: half of the time in which a short command starts is loading.

Its sockets can do TLS, for which they load OpenSSL's bindings and the whole of `cryptography`, even where
nobody says STARTTLS. Where these bindings are missing it does without (as it says itself), and
`common.wire.tls` puts TLS on such a socket when the time comes. It also has another name for the library's
cookies, which come with an HTTP client and everything about e-mail. Its Deferreds know asyncio, all of it,
for the types in two annotations and the question whether something is a coroutine.

To be called when a process begins, before anything is loaded; where that was not done, all is as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import CoroutineType, ModuleType
from typing import Any

_TLS = "OpenSSL"
_HARDLY_USED = ("http.cookiejar",)
_DEFERREDS = "twisted.internet.defer"
_ASYNCIO = "asyncio"


def begin_lean() -> None:
    """TLS is loaded by `with_tls` only, modules that hardly anybody uses when somebody does."""
    sys.modules.setdefault(_TLS, None)  # type: ignore[arg-type]  # an import of it is an ImportError
    for name in _HARDLY_USED:
        if name not in sys.modules:
            _put_off(name)
    if _DEFERREDS not in sys.modules and _ASYNCIO not in sys.modules:
        sys.meta_path.insert(0, _WithoutAsyncio())


def with_tls() -> None:
    """OpenSSL's bindings may be loaded from now on."""
    if sys.modules.get(_TLS, sys) is None:
        del sys.modules[_TLS]


def _put_off(name: str) -> ModuleType:
    """Load a module when something of it is used; what stands in for it until then. (The library's own
    `LazyLoader` loads it when it is imported, up to Python 3.11.)"""
    stand_in = ModuleType(name)

    def found(attribute: str) -> Any:
        if attribute.startswith("__"):  # `from … import` asks whether it is a package
            raise AttributeError(attribute)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), attribute)

    stand_in.__getattr__ = found  # type: ignore[method-assign] # of a module it is an attribute (PEP 562)
    sys.modules[name] = stand_in
    return stand_in


class _WithoutAsyncio:
    """Finds Twisted's Deferreds, and keeps asyncio from them while they are loaded. Everybody else, and they
    where they really use it, have the library's."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _DEFERREDS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and _ASYNCIO not in sys.modules:
            execute = spec.loader.exec_module

            def without(module: ModuleType) -> None:
                little = _put_off(_ASYNCIO)
                vars(little).update(
                    iscoroutine=lambda thing: isinstance(thing, CoroutineType | Coroutine),
                    Future=type("Future", (), {}),
                    AbstractEventLoop=type("AbstractEventLoop", (), {}),
                )
                try:
                    execute(module)
                finally:
                    if sys.modules.get(_ASYNCIO) is little:
                        del sys.modules[_ASYNCIO]

            spec.loader.exec_module = without  # type: ignore[method-assign]
        return spec
