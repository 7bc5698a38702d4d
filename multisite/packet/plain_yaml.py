"""As much of YAML as a header needs, written and read without surprises.

>>> load("a: [1, no]") == {"a": ["1", "no"]}
True
"""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 4


def quote(text: str) -> str:
    """`text` in double quotes. Each of its lines stands on a line of its own, indented."""
    return '"' + "\\n\\\n  ".join(_quote_line(line) for line in text.split("\n")) + '"'


def _quote_line(line: str) -> str:
    quoted = "".join(one if one.isprintable() and one not in '"\\' else _escape(one) for one in line)
    # White space that begins a line within quotes does not count, so it must not look like it.
    return "\\x20" + quoted[1:] if quoted.startswith(" ") else quoted


def _escape(one: str) -> str:
    number = ord(one)
    if one in '"\\':
        return "\\" + one
    if number < 256:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def load(text: str) -> Any:
    """Plain YAML as dicts, lists and texts. No aliases, no tags, no key twice, no depth: nothing in it can
    make it larger than its text, and no word is taken for a number or a truth value before it is asked for.

    Raises ValueError."""
    try:
        return _build(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _build(text: str) -> Any:
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    stack: list[dict[str, Any] | list[Any]] = []
    key: list[str | None] = []
    root: list[Any] = []

    def put(value: Any) -> None:
        if not stack:
            root.append(value)
        elif isinstance(top := stack[-1], list):
            top.append(value)
        elif (name := key[-1]) is not None:
            top[name] = value
            key[-1] = None
        elif isinstance(value, str) and value not in top:
            key[-1] = value
        else:
            raise ValueError("a key that is no text, or is there twice")

    for event in yaml.parse(text, Loader=loader):
        if any(getattr(event, name, None) for name in ("anchor", "tag")):
            raise ValueError("an alias, an anchor or a tag")
        if isinstance(event, yaml.ScalarEvent):
            put(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            put(value)
            stack.append(value)
            key.append(None)
            if len(stack) > _DEEPEST:
                raise ValueError("nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            key.pop()
    if len(root) != 1:
        raise ValueError("not one YAML document")
    return root[0]
