"""Codes of the protocol are read as they are written, and every failure has its exit status."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import (
    REPLY_ERRORS,
    CannotConnect,
    ConfigError,
    MailboxLocked,
    PeerError,
    RemoteDenied,
    ReplyError,
    StoreCorrupt,
    StoreError,
    UnknownFailure,
    UsageError,
    reply_error,
)


@pytest.mark.covers(
    "Codes after NO",
    "IMAP_INVALID_USER",
    "IMAP_MAILBOX_NONEXISTENT",
    "IMAP_MAILBOX_LOCKED",
    "IMAP_MAILBOX_MOVED",
    "IMAP_MAILBOX_NOTSUPPORTED",
    "IMAP_PARTITION_UNKNOWN",
    "IMAP_PERMISSION_DENIED",
    "IMAP_PROTOCOL_BAD_PARAMETERS",
    "IMAP_PROTOCOL_ERROR",
    "IMAP_SYNC_BADSIEVE",
    "IMAP_SYNC_CHANGED",
    "IMAP_SYNC_CHECKSUM",
)
@pytest.mark.parametrize("error", REPLY_ERRORS.values())
def test_a_code_is_read_as_it_is_written(error: type[ReplyError]) -> None:
    assert type(reply_error(error().reply)) is error


@pytest.mark.covers("Codes after NO", "Unknown error")
@pytest.mark.parametrize("text", ["Unknown error", "IMAP_MAILBOX_LOCKEDX y", "imap_mailbox_locked x", ""])
def test_anything_else_is_a_refusal_without_a_code(text: str) -> None:
    error = reply_error(text)
    assert type(error) is RemoteDenied and error.message == (text or "Unknown error")


@pytest.mark.covers("Codes after NO", "Unknown error")
@pytest.mark.covers("Other errors", "UnknownFailure")
def test_what_has_no_code_says_its_reason() -> None:
    error = UnknownFailure("the folder has no inbox")
    assert error.reply == "the folder has no inbox" and UnknownFailure().reply == "Unknown error"
    assert type(reply_error(error.reply)) is RemoteDenied


@pytest.mark.covers(
    "Other errors", "UsageError", "ConfigError", "StoreError", "StoreCorrupt", "PeerError", "ReplyError"
)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PeerError, 1),
        (CannotConnect, 1),
        (ReplyError, 1),
        (UsageError, 64),
        (StoreCorrupt, 75),
        (StoreError, 75),
        (MailboxLocked, 75),
        (ConfigError, 78),
    ],
)
def test_a_command_ends_with_the_status_of_what_it_met(error: type[PeerError], status: int) -> None:
    assert error().exit_status == status


@pytest.mark.covers("Other errors", "CyrusSyncError")
def test_the_innermost_place_is_the_one_that_is_told() -> None:
    error = MailboxLocked().at(mailbox="user.a").at(mailbox="user.b", user="a", channel=None)
    assert str(error) == "Mailbox locked [mailbox=user.a user=a]"
