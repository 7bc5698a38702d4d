"""The YAML of this replica's own small files, by libyaml where PyYAML has it: every command reads some."""

from __future__ import annotations

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load(text: str) -> Any:
    """What the text of one of our own files holds. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 (it is a safe one)


def dump(values: dict[str, Any]) -> bytes:
    """The text, in the order of the keys."""
    text: str = yaml.dump(values, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text.encode()
