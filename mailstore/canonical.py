"""Write a tree of values as YAML or JSON, always the same way, without holding it in memory.

Containers are dicts, or iterators whose items are written as they come. A `Line` (a dict of plain values)
stands on one line. Text is escaped so that the same line is right in both formats.

>>> import sys
>>> write_yaml({"users": iter([Line(name="zoé", n=1)])}, sys.stdout.write)
users:
- {"name": "zoé", "n": 1}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Write = Callable[[str], object]

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_BUFFER = 512


class Line(dict[str, Any]):
    """A dict that is written on one line; its values are plain, or lists and dicts of plain ones."""


def text_of(value: Any) -> str:
    """A plain value, or a `Line`, as JSON that is YAML as well."""
    made = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    if _UNPRINTABLE.search(made):
        return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", made)
    return made


def octets(value: bytes) -> str | dict[str, str]:
    """Octets as text if they are UTF-8, else as hexadecimal digits."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def write_yaml(tree: dict[str, Any], write: Write) -> None:
    """`tree` as one YAML document."""
    _yaml_dict(tree, "", write)


def _yaml_dict(tree: dict[str, Any], indent: str, write: Write, first: str = "") -> None:
    lead = first or indent
    for key, value in tree.items():
        if isinstance(value, Iterator):
            write(f"{lead}{key}:")
            _yaml_list(value, indent, write)
        elif isinstance(value, dict) and not isinstance(value, Line):
            write(f"{lead}{key}:\n")
            _yaml_dict(value, indent + "  ", write)
        else:
            write(f"{lead}{key}: {text_of(value)}\n")
        lead = indent


def _yaml_list(items: Iterator[Any], indent: str, write: Write) -> None:
    held: list[str] = []
    empty = True
    for item in items:
        if empty:
            write("\n")
            empty = False
        if isinstance(item, dict) and not isinstance(item, Line):
            write("".join(held))
            held.clear()
            _yaml_dict(item, indent + "  ", write, f"{indent}- ")
        else:
            held.append(f"{indent}- {text_of(item)}\n")
            if len(held) >= _BUFFER:
                write("".join(held))
                held.clear()
    write(" []\n" if empty else "".join(held))


def write_json(tree: dict[str, Any], write: Write) -> None:
    """`tree` as one JSON document, one item of a list on a line."""
    _json(tree, "", write)
    write("\n")


def _json(value: Any, indent: str, write: Write) -> None:
    deeper = indent + " "
    if isinstance(value, Iterator):
        separator = "\n"
        write("[")
        for item in value:
            write(separator + deeper)
            _json(item, deeper, write)
            separator = ",\n"
        write("]")
    elif isinstance(value, dict) and not isinstance(value, Line):
        separator = "\n"
        write("{")
        for key, item in value.items():
            write(f"{separator}{deeper}{text_of(key)}: ")
            _json(item, deeper, write)
            separator = ",\n"
        write("}")
    else:
        write(text_of(value))
