"""The words, tags and extensions of Sieve that the compiler of a Cyrus 3.6 knows.

The tables were taken down by trying it (``sievec`` of 3.6.1); a test compares the two
(`common.sieve_dialect`).
"""

from __future__ import annotations

from typing import NamedTuple

EXTENSIONS = frozenset(
    {
        "comparator-i;octet",
        "comparator-i;ascii-casemap",
        "comparator-i;ascii-numeric",
        "encoded-character",
        "envelope",
        "fileinto",
        "regex",
        "copy",
        "body",
        "environment",
        "variables",
        "vacation",
        "relational",
        "imap4flags",
        "imapflags",
        "subaddress",
        "date",
        "index",
        "editheader",
        "ereject",
        "reject",
        "enotify",
        "notify",
        "ihave",
        "mailbox",
        "mboxmetadata",
        "servermetadata",
        "redirect-deliverby",
        "redirect-dsn",
        "vacation-seconds",
        "include",
        "duplicate",
        "special-use",
        "fcc",
        "mailboxid",
        "vnd.cyrus.log",
        "x-cyrus-log",
        "vnd.cyrus.jmapquery",
        "x-cyrus-jmapquery",
        "vnd.cyrus.snooze",
        "snooze",
        "x-cyrus-snooze",
        "vnd.cyrus.imip",
    }
)
"""All that a 3.6.1 has unless its `sieve_extensions` says less."""

ALIASES = {
    "imapflags": "imap4flags",
    "x-cyrus-log": "vnd.cyrus.log",
    "x-cyrus-jmapquery": "vnd.cyrus.jmapquery",
    "snooze": "vnd.cyrus.snooze",
    "x-cyrus-snooze": "vnd.cyrus.snooze",
}


class Tag(NamedTuple):
    takes: str = ""
    """What stands behind it: a letter as in `Word.takes`, "" = nothing."""
    needs: str = ""
    """The extension that brings it."""


class Word(NamedTuple):
    takes: tuple[str, ...]
    """Forms of the positional arguments: s(tring), l(ist or string), n(umber), h(eader fields), f(lags),
    a(ddress), v(ariable), d(ate part)."""
    needs: tuple[str, ...] = ()
    """Extensions of which one has to be required."""
    tags: str = ""
    tests: str = ""
    """"" = none, ``1`` = one, ``+`` = a list in parentheses."""


TAGS = {
    "comparator": Tag("c"),
    "is": Tag(),
    "contains": Tag(),
    "matches": Tag(),
    "regex": Tag("", "regex"),
    "count": Tag("r", "relational"),
    "value": Tag("r", "relational"),
    "list": Tag("", "extlists"),
    "index": Tag("n", "index"),
    "last": Tag(),
    "all": Tag(),
    "localpart": Tag(),
    "domain": Tag(),
    "user": Tag("", "subaddress"),
    "detail": Tag("", "subaddress"),
    "over": Tag(),
    "under": Tag(),
    "copy": Tag("", "copy"),
    "create": Tag("", "mailbox"),
    "flags": Tag("f", "imap4flags"),
    "specialuse": Tag("s", "special-use"),
    "mailboxid": Tag("s", "mailboxid"),
    "fcc": Tag("s", "fcc"),
    "bytimerelative": Tag("n", "redirect-deliverby"),
    "bytimeabsolute": Tag("s", "redirect-deliverby"),
    "bymode": Tag("s", "redirect-deliverby"),
    "bytrace": Tag("", "redirect-deliverby"),
    "notify": Tag("s", "redirect-dsn"),
    "ret": Tag("s", "redirect-dsn"),
    "lower": Tag(),
    "upper": Tag(),
    "lowerfirst": Tag(),
    "upperfirst": Tag(),
    "quotewildcard": Tag(),
    "quoteregex": Tag("", "regex"),
    "encodeurl": Tag("", "enotify"),
    "length": Tag(),
    "days": Tag("n"),
    "seconds": Tag("n"),
    "subject": Tag("s"),
    "from": Tag("s"),
    "addresses": Tag("l"),
    "mime": Tag(),
    "handle": Tag("s"),
    "raw": Tag(),
    "text": Tag(),
    "content": Tag("l"),
    "zone": Tag("s"),
    "originalzone": Tag(),
    "importance": Tag("i"),
    "message": Tag("s"),
    "options": Tag("l"),
    "id": Tag("s"),
    "method": Tag("s"),
    "low": Tag(),
    "normal": Tag(),
    "high": Tag(),
    "personal": Tag(),
    "global": Tag(),
    "once": Tag(),
    "optional": Tag(),
    "header": Tag("s"),
    "uniqueid": Tag("s"),
    "mailbox": Tag("s"),
    "addflags": Tag("f", "imap4flags"),
    "removeflags": Tag("f", "imap4flags"),
    "weekdays": Tag("l"),
    "tzid": Tag("s"),
    "invitesonly": Tag(),
    "updatesonly": Tag(),
    "deletecanceled": Tag(),
    "calendarid": Tag("s"),
    "outcome": Tag("s", "variables"),
    "errstr": Tag("s", "variables"),
}
_MATCH = "comparator is contains matches regex count value"
_PART = "all localpart domain user detail"
FCC = "fcc create flags specialuse mailboxid"
_FLAG = Word(("f", "sf"), ("imap4flags",))

COMMANDS = {
    "if": Word(("",), tests="1"),
    "elsif": Word(("",), tests="1"),
    "else": Word(("",)),
    "require": Word(("l",)),
    "stop": Word(("",)),
    "keep": Word(("",), tags="flags"),
    "discard": Word(("",)),
    "fileinto": Word(("s",), ("fileinto",), "copy flags create specialuse mailboxid"),
    "redirect": Word(("a",), (), "copy list bytimerelative bytimeabsolute bymode bytrace notify ret"),
    "set": Word(
        ("vs",),
        ("variables",),
        "lower upper lowerfirst upperfirst quotewildcard quoteregex encodeurl length",
    ),
    "vacation": Word(("s",), ("vacation",), f"days seconds subject from addresses mime handle {FCC}"),
    "setflag": _FLAG,
    "addflag": _FLAG,
    "removeflag": _FLAG,
    "mark": Word(("",), ("imap4flags",)),
    "unmark": Word(("",), ("imap4flags",)),
    "addheader": Word(("hs",), ("editheader",), "last"),
    "deleteheader": Word(("h", "hl"), ("editheader",), f"{_MATCH} list index last"),
    "reject": Word(("s",), ("reject",)),
    "ereject": Word(("s",), ("ereject",)),
    "notify": Word(
        ("s", ""), ("enotify", "notify"), f"from importance message options id method low normal high {FCC}"
    ),
    "denotify": Word(("", "s"), ("notify",), f"low normal high {_MATCH}"),
    "include": Word(("s",), ("include",), "personal global once optional"),
    "return": Word(("",), ("include",)),
    "log": Word(("s",), ("vnd.cyrus.log",)),
    "snooze": Word(
        ("l",),
        ("vnd.cyrus.snooze",),
        "mailbox create specialuse mailboxid addflags removeflags weekdays tzid",
    ),
    "processimip": Word(
        ("",), ("vnd.cyrus.imip",), "invitesonly updatesonly deletecanceled calendarid outcome errstr"
    ),
}
TESTS = {
    "anyof": Word(("",), tests="+"),
    "allof": Word(("",), tests="+"),
    "not": Word(("",), tests="1"),
    "true": Word(("",)),
    "false": Word(("",)),
    "exists": Word(("l",)),
    "size": Word(("n",), (), "over under"),
    "header": Word(("hl",), (), f"{_MATCH} list index last"),
    "address": Word(("hl",), (), f"{_MATCH} {_PART} list index last"),
    "envelope": Word(("ll",), ("envelope",), f"{_MATCH} {_PART} list"),
    "body": Word(("l",), ("body",), f"{_MATCH} raw text content"),
    "environment": Word(("sl",), ("environment",), _MATCH),
    "string": Word(("ll",), ("variables",), f"{_MATCH} list"),
    "hasflag": Word(("l", "ll"), ("imap4flags",), _MATCH),
    "date": Word(("sdl",), ("date",), f"{_MATCH} zone originalzone index last"),
    "currentdate": Word(("dl",), ("date",), f"{_MATCH} zone"),
    "valid_notify_method": Word(("l",), ("enotify",)),
    "notify_method_capability": Word(("ssl",), ("enotify",), _MATCH),
    "mailboxexists": Word(("l",), ("mailbox",)),
    "metadata": Word(("ssl",), ("mboxmetadata",), _MATCH),
    "metadataexists": Word(("sl",), ("mboxmetadata",)),
    "servermetadata": Word(("sl",), ("servermetadata",), _MATCH),
    "servermetadataexists": Word(("l",), ("servermetadata",)),
    "valid_ext_list": Word(("l",), ("extlists",)),
    "duplicate": Word(("",), ("duplicate",), "header uniqueid handle seconds last"),
    "specialuse_exists": Word(("l", "sl"), ("special-use",)),
    "mailboxidexists": Word(("l",), ("mailboxid",)),
    "jmapquery": Word(("s",), ("vnd.cyrus.jmapquery",)),
}
EXCLUSIVE = (
    "is contains matches regex count value list",
    _PART,
    "days seconds",
    "specialuse mailboxid",
    "raw text content",
    "zone originalzone",
    "lower upper",
    "lowerfirst upperfirst",
    "quotewildcard quoteregex",
    "personal global",
    "bytimerelative bytimeabsolute",
    "low normal high importance",
    "header uniqueid",
)
CHOICES = {
    "c": ("i;octet", "i;ascii-casemap", "i;ascii-numeric"),
    "r": ("eq", "ne", "gt", "ge", "lt", "le"),
    "i": ("1", "2", "3"),
}
