"""passwd: give a user a password for logging in to sync_server.

The password is read from standard input (its first line; on a terminal it is asked for without echo).
The file of sync_passwd_file gets SCRAM verifiers, never the password itself."""

from __future__ import annotations

import argparse
import getpass
import sys

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.wire.sasl.passwd import PasswordFile, check_same_everywhere
from cyrus_sync.mailstore.context import StoreContext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER")
    parser.add_argument("--delete", action="store_true", help="take the user's password away")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    path = context.config.string("sync_passwd_file")
    assert path is not None
    passwords = PasswordFile(path)
    if args.delete:
        if not passwords.remove(args.user):
            context.warn(f"{args.user} had no password")
            return EX_FAILURE
        return EX_OK
    password = _read_password(args.user, context)
    check_same_everywhere(password, args.user)
    passwords.set_password(args.user, password)
    return 0


def _read_password(user: str, context: StoreContext) -> str:
    if context.stdin is sys.stdin.buffer and sys.stdin.isatty():
        password = getpass.getpass(f"New password of {user}: ")
        if getpass.getpass("Again: ") != password:
            raise UsageError("the two passwords differ")
        return password
    try:
        return context.stdin.readline().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("the password is not valid UTF-8") from None
