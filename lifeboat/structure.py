"""ENVELOPE, BODY and BODYSTRUCTURE (RFC 3501, 7.4.2) of a parsed message."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.lifeboat.addresses import Address, addresses
from cyrus_sync.lifeboat.grammar import nstring, quoted
from cyrus_sync.lifeboat.mime import Part, first_word, parameters

_DEFAULT_HOST = b"unspecified-domain"
"""What Cyrus says for an address without a domain."""


def envelope(part: Part) -> bytes:
    """The envelope structure of a message."""
    sender = part.value(b"from")
    people = [
        _people(value)
        for value in (
            sender,
            part.value(b"sender") or sender,
            part.value(b"reply-to") or sender,
            part.value(b"to"),
            part.value(b"cc"),
            part.value(b"bcc"),
        )
    ]
    words = [
        nstring(part.value(b"date")),
        nstring(part.value(b"subject")),
        *people,
        nstring(part.value(b"in-reply-to")),
        nstring(part.value(b"message-id")),
    ]
    return b"(" + b" ".join(words) + b")"


def _people(value: bytes | None) -> bytes:
    found = addresses(value) if value else []
    return b"(" + b"".join(map(_person, found)) + b")" if found else b"NIL"


def _person(address: Address) -> bytes:
    host = address.host
    if host == b"":
        host = _DEFAULT_HOST
    return (
        b"("
        + b" ".join((nstring(address.name), nstring(address.route), nstring(address.mailbox), nstring(host)))
        + b")"
    )


def body_structure(part: Part, *, extended: bool) -> bytes:
    """``BODYSTRUCTURE``, or ``BODY`` without what it need not have (`extended` False)."""
    if part.multipart:
        words = [
            b"".join(body_structure(one, extended=extended) for one in part.parts),
            quoted(part.subtype),
        ]
        if extended:
            words += [_parameters(part.parameters), *_extension(part)]
        return b"(" + b" ".join(words) + b")"
    words = [
        quoted(part.type),
        quoted(part.subtype),
        _parameters(part.parameters),
        nstring(part.value(b"content-id")),
        nstring(part.value(b"content-description")),
        quoted(first_word(part.value(b"content-transfer-encoding") or b"7bit").upper() or b"7BIT"),
        b"%d" % part.size,
    ]
    inner = part.message
    if inner is not None:
        words += [envelope(inner), body_structure(inner, extended=extended), b"%d" % part.lines]
    elif part.type == b"TEXT":
        words.append(b"%d" % part.lines)
    if extended:
        words += [nstring(part.value(b"content-md5")), *_extension(part)]
    return b"(" + b" ".join(words) + b")"


def _parameters(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    if not pairs:
        return b"NIL"
    return b"(" + b" ".join(quoted(word) for pair in pairs for word in pair) + b")"


def _extension(part: Part) -> list[bytes]:
    """Disposition, language and location."""
    return [
        _disposition(part.value(b"content-disposition")),
        _languages(part.value(b"content-language")),
        nstring(part.value(b"content-location")),
    ]


def _disposition(value: bytes | None) -> bytes:
    word = first_word(value) if value else b""
    if not value or not word:
        return b"NIL"
    return b"(" + quoted(word.upper()) + b" " + _parameters(parameters(value)) + b")"


def _languages(value: bytes | None) -> bytes:
    found = [word.strip() for word in value.split(b",")] if value else []
    tags = [quoted(word.upper()) for word in found if word]
    if not tags:
        return b"NIL"
    return tags[0] if len(tags) == 1 else b"(" + b" ".join(tags) + b")"
