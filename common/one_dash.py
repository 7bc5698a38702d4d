"""Command lines in the manner of MultiSite: one dash, names that may be cut short.

An option is declared as it stands in a synopsis, with a slash after the shortest form that is accepted:
``scl/ass`` takes ``-scl``, ``-scla`` … ``-sclass``. A name without a slash is taken only in full. A dash
that a word processor has turned into a typographic one counts as a dash, and ``·`` in a name as nothing.

>>> grammar = Grammar("shipping_server", [Option("scl/ass", "class"), Option("pol/l")])
>>> grammar.parse(["–scl", "daily", "-poll"]).text("sclass")
'daily'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import Misuse, version_text
from cyrus_sync.common.errors import EX_OK, UsageError

DASHES = "-‐‑‒–—−"
"""What counts as a dash in front of an option: hyphen-minus and its typographic relatives."""


HELP, VERSION = "help", "version"


@dataclass(frozen=True, slots=True)
class Option:
    """`spelling` with a slash after the shortest form; `argument` names its value ("" = a switch)."""

    spelling: str
    argument: str = ""
    help: str = ""
    repeatable: bool = False

    @property
    def name(self) -> str:
        return self.spelling.replace("/", "")

    @property
    def shortest(self) -> int:
        head, slash, _ = self.spelling.partition("/")
        return len(head) if slash else len(self.name)

    def answers_to(self, typed: str) -> bool:
        return len(typed) >= self.shortest and self.name.startswith(typed)


ABOUT_ITSELF = (Option("h/elp", "", "this text"), Option(VERSION, "", "print the version and end"))
"""What every command says of itself."""


def wants(word: str, option: str) -> bool:
    """Whether a word of a command line is an option of `ABOUT_ITSELF`, one dash or two."""
    typed = word.lstrip(DASHES) or "-"
    return word[:1] in DASHES and any(o.name == option and o.answers_to(typed) for o in ABOUT_ITSELF)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The options that were given, by full name, and the rest."""

    values: dict[str, list[str]] = field(default_factory=dict)
    operands: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str | None:
        """The (last) value of an option, None if it was not given."""
        return self.values[name][-1] if self.values.get(name) else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))


class Grammar:
    """The options of one command. `operands` is the end of its synopsis."""

    def __init__(
        self, program: str, options: Sequence[Option], operands: str = "", about: str = "", epilog: str = ""
    ) -> None:
        self.program = program
        self.options = tuple(options)
        self.operands = operands
        self._about = about
        self._epilog = epilog

    def parse(self, argv: Sequence[str]) -> Parsed:
        """Options may stand anywhere before ``--``. `UsageError` for one that is unknown, ambiguous,
        without its value or given twice."""
        values: dict[str, list[str]] = {}
        operands: list[str] = []
        words = iter(argv)
        for word in words:
            if word == "--":
                operands.extend(words)
            elif len(word) < 2 or word[0] not in DASHES:
                operands.append(word)
            else:
                option = self._find(word)
                if option.name in values and not option.repeatable:
                    raise UsageError(f"-{option.name} is given twice")
                given = values.setdefault(option.name, [])
                if option.argument:
                    value = next(words, None)
                    if value is None:
                        raise UsageError(f"-{option.name} needs a value: {option.argument}")
                    given.append(value)
        return Parsed(values, tuple(operands))

    def _find(self, word: str) -> Option:
        typed = word.lstrip(DASHES).replace("·", "").replace("/", "")
        exact = [option for option in self.options if option.name == typed]
        found = exact or [option for option in self.options if option.answers_to(typed)]
        if not found:
            raise UsageError(f"unknown option {word}")
        if len(found) > 1:
            raise UsageError(f"{word} may be {' or '.join('-' + option.name for option in found)}")
        return found[0]

    def usage(self) -> str:
        """The synopsis, one line."""
        words = [f"[-{o.spelling}{' ' + o.argument if o.argument else ''}]" for o in self.options]
        return " ".join(["usage:", self.program, *words, *([self.operands] if self.operands else [])])

    def help(self) -> str:
        """What ``-help`` prints."""
        lines = [self.usage(), "", self._about, ""] if self._about else [self.usage(), ""]
        for option in self.options:
            lines.append(f"  -{option.spelling}{' ' + option.argument if option.argument else ''}")
            lines.append(f"        {option.help}")
        return "\n".join([*lines, "", self._epilog] if self._epilog else lines)


def run_words(program: str, grammar: Grammar, words: Sequence[str], work: Callable[[Parsed], int]) -> int:
    """Parse `words`, say what they ask of the command itself, or do the work; the exit status.

    A `UsageError` is raised as `Misuse`, with the synopsis.
    """
    try:
        options = grammar.parse(words)
        if HELP in options:
            print(grammar.help())
        elif VERSION in options:
            print(version_text(program))
        elif options.operands and not grammar.operands:
            raise UsageError(f"{program} takes no operands, but '{options.operands[0]}' was given")
        else:
            return work(options)
    except UsageError as error:
        raise Misuse(str(error), program, grammar.usage()) from None
    return EX_OK
