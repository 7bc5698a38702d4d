"""Certificates that have expired or soon will, while there is still time; and those shown, read again.

Both ends look when they start and at SIGHUP, a server once a day as well, ``sync_client --status`` each time.
An authority counts like a certificate: when it has expired, nothing that it has signed is accepted. One that
has been renewed in the same file is past and gone; a bundle of many, as systems bring it, always has old ones
and is not looked at.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.wire.tls_settings import ClientTLSSettings, ServerTLSSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from cyrus_sync.common.wire.settings import ClientSettings

SOON = datetime.timedelta(days=30)
"""How long before its end a certificate is warned of."""

BUNDLE = 20
"""More authorities than anybody chooses by hand."""


class Reloadable(Protocol):
    """The certificates that a server shows (`common.wire.tls.ServerTLS`)."""

    def reload(self) -> None: ...


def read_again(shown: Reloadable, log: logging.Logger) -> None:
    """At SIGHUP. Bad files leave the certificates in use as they are."""
    try:
        shown.reload()
    except ConfigError as error:
        log.error("SIGHUP: the certificates in use stay: %s", error)
    else:
        log.info("SIGHUP: certificates read again")


class CertificateFile(NamedTuple):
    """A file of certificates, and the option of imapd.conf that names it."""

    option: str
    path: Path
    authorities: bool = False


def server_files(settings: ServerTLSSettings | None) -> list[CertificateFile]:
    """What a server shows, and whom it trusts to sign certificates of clients."""
    if settings is None:
        return []
    found = [CertificateFile("tls_server_cert", Path(path)) for path in settings.certs]
    if settings.client_certs != "off":
        found += _authorities("tls_client_ca", settings.client_ca_file, settings.client_ca_dir)
    return found


def client_files(settings: ClientTLSSettings) -> list[CertificateFile]:
    """What a client shows, and whom it trusts to sign those of servers."""
    found = [CertificateFile("tls_client_cert", Path(settings.cert))] if settings.cert else []
    if settings.verify:
        found += _authorities("tls_server_ca", settings.ca_file, settings.ca_dir)
    return found


def client_warnings(settings: ClientSettings) -> list[str]:
    """`expiry_warnings` of what connections to the server take; none where it is a UNIX socket."""
    return [] if settings.path else expiry_warnings(client_files(settings.tls))


def _authorities(option: str, file: str | None, directory: str | None) -> Iterator[CertificateFile]:
    if file:
        yield CertificateFile(f"{option}_file", Path(file), authorities=True)
    if directory and Path(directory).is_dir():
        real = {path.resolve() for path in Path(directory).iterdir() if path.is_file()}
        if len(real) <= BUNDLE:
            yield from (CertificateFile(f"{option}_dir", path, authorities=True) for path in sorted(real))


def expiry_warnings(files: Iterable[CertificateFile], now: datetime.datetime | None = None) -> list[str]:
    """A line for each certificate that has expired, soon will, or is not valid yet.

    `now` is the present if not given. A file that cannot be read is not this function's business.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    said: list[str] = []
    for file, cert in _that_count(files):
        if what := _trouble(cert.not_valid_before_utc, cert.not_valid_after_utc, now):
            name = cert.subject.rfc4514_string() or "without a name"
            said.append(f"{file.option}: {file.path}: the certificate {name} {what}")
    return list(dict.fromkeys(said))


def ends(files: Iterable[CertificateFile]) -> Iterator[tuple[str, Path, datetime.datetime]]:
    """Option, path, and when the first certificate of the file ends. Blocks; files that cannot be read are
    passed over."""
    first: dict[CertificateFile, datetime.datetime] = {}
    for file, cert in _that_count(files):
        first[file] = min(first.get(file, cert.not_valid_after_utc), cert.not_valid_after_utc)
    for file, end in first.items():
        yield file.option, file.path, end


def _that_count(files: Iterable[CertificateFile]) -> Iterator[tuple[CertificateFile, Certificate]]:
    """The certificates in use: an authority that has been renewed in the same file is past and gone."""
    for file in files:
        from cryptography import x509  # slow to load, and most commands need none

        try:
            found = x509.load_pem_x509_certificates(file.path.read_bytes())
        except (OSError, ValueError):
            continue
        if file.authorities and len(found) > BUNDLE:
            continue
        newest = {cert.subject: cert.not_valid_after_utc for cert in found}
        for cert in found:
            newest[cert.subject] = max(newest[cert.subject], cert.not_valid_after_utc)
        for cert in found:
            if not file.authorities or cert.not_valid_after_utc >= newest[cert.subject]:
                yield file, cert


def _trouble(begin: datetime.datetime, end: datetime.datetime, now: datetime.datetime) -> str:
    if now > end:
        return f"has expired {_days(now - end)} ago (on {end:%Y-%m-%d})"
    if end - now < SOON:
        return f"expires in {_days(end - now)} (on {end:%Y-%m-%d})"
    if now < begin:
        return f"is not valid before {begin:%Y-%m-%d %H:%M} UTC"
    return ""


def _days(span: datetime.timedelta) -> str:
    if span.days == 0:
        return "less than a day"
    return f"{span.days} day{'s' if span.days > 1 else ''}"
