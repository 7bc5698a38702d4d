"""sieve: put, activate, delete, list or show a user's Sieve scripts.

put reads the script from FILE or standard input and refuses one whose syntax is wrong. One that a Cyrus 3.6
does not compile (an unknown extension, a missing require, a number of 2G) is stored with a warning on stderr:
it is left out where the replica is a real Cyrus. activate without
NAME deactivates."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyrus_sync.common import sieve
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.sieve_dialect import why_not_compiled
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("put", "activate", "delete", "list", "show"))
    parser.add_argument("user", metavar="USER")
    parser.add_argument("name", metavar="NAME", nargs="?")
    parser.add_argument("file", metavar="FILE", nargs="?", help="for put")
    parser.add_argument("--activate", action="store_true", help="put: and make it the active script")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    user = context.user(args.user)
    context.require_user(user)
    if args.name is None and args.action in ("put", "delete", "show"):
        raise UsageError(f"sieve {args.action}: which NAME?")
    if args.file is not None and args.action != "put":
        raise UsageError("sieve: only put takes a FILE")
    if args.name is not None:
        sieve.check_name(args.name)
    if args.action in ("list", "show"):
        return _show(args, context)
    if args.action == "put":
        _put(args, context)
        return 0
    with context.write(user) as writer:
        known = [sieve.name_of(script.filename) for script in writer.sieve_scripts()]
        if args.name is not None and args.name not in known:
            raise BadInput(f"{args.user} has no Sieve script {args.name}")
        if args.action == "delete":
            writer.delete_script(args.name)
        else:
            writer.activate_script(args.name)
    return 0


def _put(args: argparse.Namespace, context: StoreContext) -> None:
    content = _read(args, context)
    with context.write(context.user(args.user)) as writer:
        writer.put_script(args.name, content)
        if args.activate:
            writer.activate_script(args.name)
    reason = why_not_compiled(content)
    if reason:
        context.warn(
            f"{args.user}: the script {args.name} is stored, but a Cyrus 3.6 does not compile it: {reason}."
            " A replica that is a real Cyrus goes without it"
        )


def _show(args: argparse.Namespace, context: StoreContext) -> int:
    with context.store(readonly=True).read(context.user(args.user)) as reader:
        scripts = reader.sieve_scripts()
        if args.action == "list":
            active = {sieve.name_of(script.filename) for script in scripts if script.active}
            for script in scripts:
                if script.filename.endswith(".script"):
                    name = sieve.name_of(script.filename)
                    context.print(f"{name}\tactive" if name in active else f"{name}")
            return 0
        content = reader.sieve_content(sieve.script_filename(args.name))
    if content is None:
        raise BadInput(f"{args.user} has no Sieve script {args.name}")
    context.stdout.write(content.decode("utf-8", "replace"))
    return 0


def _read(args: argparse.Namespace, context: StoreContext) -> bytes:
    try:
        content = context.stdin.read() if args.file in (None, "-") else Path(args.file).read_bytes()
    except OSError as error:
        raise NoInput(f"{args.file}: {error.strerror}") from error
    sieve.check_syntax(content)
    return content
