"""The examples in the docstrings of the grammar do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from cyrus_sync.common import protocol

MODULES = [f"{protocol.__name__}.{module.name}" for module in pkgutil.iter_modules(protocol.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) > 8
