"""Write what `common.config.options` declares as the example file and as the manual page.

``python -m cyrus_sync.common.config.documents`` rewrites ``etc/imapd.conf.example`` and
``docs/man/imapd.conf.5.md`` of the checkout that it stands in; ``--check`` only says which of them are not in
step (exit 1).
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from cyrus_sync.common.config.options import THEMES, Kind, Option

EXAMPLE = Path("etc/imapd.conf.example")
MANUAL = Path("docs/man/imapd.conf.5.md")

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_SIZES = {"b": "bytes", "k": "KiB", "m": "MiB", "g": "GiB"}

_EXAMPLE_HEAD = """\
# imapd.conf(5) for sync_client, sync_server, mailstore, cyr_synclog and sync_reset.
#
# Every option that these programs read, with its type, default and meaning. An option that is set here
# stands alone; a default is commented out. "channel" = may be given as <channel>_<option> for one channel;
# every option may be given as <program>_<option> for one program. Options of other Cyrus programs may
# stand in the same file and are left alone.

configdirectory: /var/lib/cyrus
partition-default: /var/spool/cyrus/mail
"""

_MANUAL_HEAD = """\
# imapd.conf(5)

## NAME

imapd.conf - configuration of sync_client, sync_server, mailstore, cyr_synclog and sync_reset

## DESCRIPTION

The programs read the same file as a Cyrus IMAP server, by default `/etc/imapd.conf`, with the same rules.

* One option a line, `name: value`. The colon follows the name at once; blanks around the value do not
  count; a value is never empty. There is no quoting.
* Empty lines, and lines whose first non-blank is `#`, do not count. A `#` further on belongs to the value.
* A line that ends in a backslash goes on in the next; backslash and line end vanish. This holds for
  comments too.
* `@include: /path` reads another file in that place. A file can be included once. There is no other
  directive.
* An option given twice is an error, also across included files.
* With CYRUS_PREFIX in the environment, `$CYRUS_PREFIX/<file>` is tried before `<file>`.
* `<program>_<option>` overrides `<option>` for that program (`sync_server_sync_timeout`).
  `<channel>_<option>` overrides both for `sync_client -n <channel>`, where the option says *channel*.
* A value that begins with `{configdirectory}` has that replaced.
* Options of other Cyrus programs are left alone. A bad value of an option that is listed here ends the
  program with one line, `file:line: option: what is wrong`, and exit status 78.

Types:

* *switch*: `yes on t true 1` or `no off f false 0`.
* *number*: decimal, `0x` hexadecimal, or octal with a leading 0.
* *duration*: numbers with `d`, `h`, `m` or `s`, added up: `1h30m`. A number alone is seconds, unless the
  option says otherwise.
* *size*: a number with `k`, `m` or `g` (1024-based, `KiB` is the same as `k`). A number alone is bytes,
  unless the option says otherwise.
* *choice*: one of the words listed. *words*: words with blanks between them. *string*: the text as it is.

## OPTIONS

`partition-<name>` (string, at least one for a mail store)
:   Directory of the partition `<name>` (letters and digits), an absolute path.

`<host>_mechs`, `<host>_client_cert`, `<host>_client_key` (string)
:   `force_sasl_client_mech`, `tls_client_cert` and `tls_client_key` for connections to one host; `<host>`
    is its name up to the first dot.

"""

_MANUAL_TAIL = """\
## EXAMPLE

A master with two replicas, one of them far away:

    configdirectory: /var/lib/cyrus
    partition-default: /var/spool/cyrus/mail
    sync_log: yes
    sync_log_channels: near far
    sync_authname: replicator
    near_sync_host: replica1.example
    far_sync_host: replica2.example
    far_sync_compress: yes
    @include: /etc/cyrus/sync-password.conf

## SEE ALSO

sync_client(8), sync_server(8), mailstore(8), cyr_synclog(8), sync_reset(8)
"""


def example_text() -> str:
    """The whole of ``etc/imapd.conf.example``."""
    parts = [_EXAMPLE_HEAD]
    for theme in THEMES:
        parts.append(f"\n## {theme.title}\n")
        for option in theme.options:
            parts.append("\n" + textwrap.fill(option.doc, 100, initial_indent="# ", subsequent_indent="# "))
            parts.append(f"\n# ({_describe(option)})\n")
            if option.name != "configdirectory":
                parts.append(f"#{option.name}: {_default(option)}\n")
    return "".join(parts)


def manual_text() -> str:
    """The whole of ``docs/man/imapd.conf.5.md``."""
    parts = [_MANUAL_HEAD]
    for theme in THEMES:
        parts.append(f"### {theme.title}\n\n")
        for option in theme.options:
            default = f"default `{option.default}`" if option.default is not None else "not set by default"
            parts.append(f"`{option.name}` ({_describe(option)}; {default})\n")
            body = textwrap.fill(option.doc.replace("*", "\\*"), 100, subsequent_indent="    ")
            parts.append(f":   {body}\n\n")
    return "".join(parts) + _MANUAL_TAIL


def _default(option: Option) -> str:
    return option.default if option.default is not None else "<not set>"


def _describe(option: Option) -> str:
    parts = [option.kind.value]
    if option.choices:
        parts[0] += ": " + " ".join(option.choices)
    if option.unit and option.kind is Kind.DURATION:
        parts.append(f"in {_UNITS[option.unit]}")
    if option.unit and option.kind is Kind.SIZE:
        parts.append(f"in {_SIZES[option.unit]}")
    if option.channel:
        parts.append("channel")
    if option.old_names:
        parts.append(f"also known as {' '.join(option.old_names)}")
    if option.ours:
        parts.append("not known to Cyrus")
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check both documents below the current directory."""
    parser = argparse.ArgumentParser(prog="python -m cyrus_sync.common.config.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if not in step")
    check = parser.parse_args(argv).check
    status = 0
    for path, text in ((EXAMPLE, example_text()), (MANUAL, manual_text())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{path} is not in step with common/config/options/", file=sys.stderr)
            status = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
