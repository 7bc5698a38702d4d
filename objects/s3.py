"""`S3Objects`: objects in a bucket of an S3 server, by obstore.

obstore's requests run in threads of its own, without Python's lock; it repeats by itself what may be
repeated. An answer that says that the bucket is missing is no answer about an object: `ObjectsUnavailable`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cyrus_sync.common.errors import ConfigError, ObjectMissing, ObjectsUnavailable, StoreError
from cyrus_sync.common.extras import lacking
from cyrus_sync.objects.store import (
    PIECE,
    Content,
    Counted,
    Listed,
    Put,
    check_back,
    check_key,
    in_pieces,
)

if TYPE_CHECKING:
    from obstore.store import S3Store

_PARTS_AT_ONCE = 2
"""Parts of one large object on their way."""

_QUICK_SECONDS, _PATIENT_SECONDS = 30, 300
"""A request is given up after this, as a server that has stopped says nothing: one for little; and one for up
to `PIECE` octets over a line that may be slow."""

_LITTLE = 256 * 1024
"""Octets."""

_CHUNK = 1024 * 1024
"""Octets of an object that are handed on as they come: more is slower, as a processor's cache does not hold
it."""

_DELETE_AT_ONCE = 1000
"""Keys in one request, S3's limit."""

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_SYSTEM = re.compile(r'message: "([^"]+)"|error: "([^"]+)"')


class Bucket(NamedTuple):
    """Where objects are, and who asks. `endpoint` "": Amazon's, of the region. `prefix`: a folder, or "".
    `access_key` "": whatever obstore finds (the environment, the role of a machine)."""

    endpoint: str
    bucket: str
    region: str
    prefix: str = ""
    access_key: str = ""
    secret_key: str = ""
    token: str = ""


class S3Objects:
    """`ObjectStore` in an S3 bucket."""

    def __init__(self, bucket: Bucket, *, patience: float = 10.0) -> None:
        """`patience`: for so many seconds a request is repeated that a server does not take. ConfigError
        where obstore is not installed, or does not take the configuration."""
        self._bucket = bucket
        prefix = bucket.prefix.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if prefix:
            check_key(prefix)
        self._obstore = _library()
        self._quick = self._open(_QUICK_SECONDS, patience)
        self._patient = self._open(_PATIENT_SECONDS, patience)

    def _open(self, seconds: int, patience: float) -> S3Store:
        bucket = self._bucket
        given: dict[str, Any] = {"region": bucket.region, "virtual_hosted_style_request": False}
        if bucket.endpoint:
            given["endpoint"] = bucket.endpoint
        if bucket.access_key:
            given |= {"access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key}
        if bucket.token:
            given["session_token"] = bucket.token
        retry: dict[str, Any] = {
            "max_retries": 20,
            "retry_timeout": timedelta(seconds=patience),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        }
        client: dict[str, Any] = {
            "allow_http": bucket.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=seconds),
            "connect_timeout": timedelta(seconds=5),
        }
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        try:
            return S3Store(bucket.bucket, client_options=client, retry_config=retry, **given)  # type: ignore[arg-type]
        except (BaseError, ValueError) as error:
            raise ConfigError(f"{self.place}: {_reason(error)}") from error

    @property
    def place(self) -> str:
        bucket = self._bucket
        at = f" at {bucket.endpoint}" if bucket.endpoint else f" in {bucket.region}"
        return f"s3://{bucket.bucket}/{self._prefix.rstrip('/')}".rstrip("/") + at

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        given = _Given(content)
        pieces = Counted(in_pieces(given if not isinstance(content, bytes) else content))
        taken = iter(pieces)
        first = list(islice(taken, 2))
        try:
            with self._trouble(key):
                if len(first) < 2:
                    data = first[0] if first else b""
                    client = self._client(len(data))
                    self._ask(self._obstore.put, client, self._full(key), data, use_multipart=False)
                else:
                    self._ask(
                        self._obstore.put,
                        self._patient,
                        self._full(key),
                        chain(first, taken),
                        chunk_size=PIECE,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
        except StoreError:
            if given.error is not None:
                raise given.error from None
            raise
        if check:
            check_back(self, key, pieces.total)
        return pieces.total

    def get(self, key: str) -> bytes:
        return b"".join(self.pieces(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        offset, left = 0, 0
        while not left:
            left = PIECE
            for data in self._stream(key, offset):
                yield data
                offset += len(data)
                left -= len(data)

    def _stream(self, key: str, offset: int) -> Iterator[bytes]:
        """Up to `PIECE` octets as they come. What breaks off in the middle is asked for once more."""
        end = offset + PIECE
        try:
            with self._trouble(key):
                answer = self._ranged(self._obstore.get, key, PIECE, options={"range": (offset, end)})
                stream = iter(answer.stream(min_chunk_size=_CHUNK)) if answer is not None else iter(())
            while True:
                with self._trouble(key):
                    found = self._ask(next, stream, None)
                if found is None:
                    return
                data = bytes(found)
                yield data
                offset += len(data)
        except ObjectsUnavailable:
            if offset == end - PIECE:
                raise
        if data := self.get_range(key, offset, end - offset):
            yield data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        with self._trouble(key):
            found = self._ranged(self._obstore.get_range, key, length, start=offset, length=length)
            return bytes(found) if found is not None else b""

    def _ranged(self, call: Callable[..., Any], key: str, octets: int, **more: Any) -> Any:
        """What the store says of a range; None for one behind the end."""
        try:
            return self._ask(call, self._client(octets), self._full(key), **more)
        except Exception as error:
            if "416" in str(error).partition("\n")[0]:
                return None
            raise

    def size(self, key: str) -> int:
        with self._trouble(key):
            try:
                return int(self._ask(self._obstore.head, self._quick, self._full(key))["size"])
            except Exception as error:
                if "non-2xx" in str(error):
                    self.get_range(key, 0, 1)  # The answer to a HEAD has no room for what is wrong.
                raise

    def listed(self, folder: str = "") -> Iterator[Listed]:
        with self._trouble(folder):
            stream = iter(self._obstore.list(self._quick, prefix=self._full(folder)))
        while True:
            with self._trouble(folder):
                batch = self._ask(next, stream, None)
            if batch is None:
                return
            for one in batch:
                yield Listed(one["path"][len(self._prefix) :], one["size"], one["last_modified"])

    def folders(self, folder: str = "") -> list[str]:
        with self._trouble(folder):
            found = self._ask(self._obstore.list_with_delimiter, self._quick, prefix=self._full(folder))
        return sorted(one[len(self._prefix) :] for one in found["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        left = iter(keys)
        while some := [self._full(key) for key in islice(left, _DELETE_AT_ONCE)]:
            with self._trouble(some[0][len(self._prefix) :]):
                try:
                    self._ask(self._obstore.delete, self._patient, some)
                except FileNotFoundError as error:
                    raise ObjectsUnavailable(f"{self.place}: {_reason(error)}") from error

    def now(self) -> datetime:
        key = "clock"
        self.put(key, b"")
        with self._trouble(key):
            found = self._ask(self._obstore.head, self._quick, self._full(key))
        modified: datetime = found["last_modified"]
        return modified.astimezone(UTC)

    def close(self) -> None:
        pass

    def _client(self, octets: int) -> S3Store:
        return self._quick if octets <= _LITTLE else self._patient

    def _ask(self, call: Callable[..., Any], *words: Any, **more: Any) -> Any:
        """Have obstore do something. It does not notice signals, so Ctrl-C would have to wait for a server
        that is silent. What the main thread wants is done in another one."""
        if threading.current_thread() is not threading.main_thread():
            return call(*words, **more)
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(call(*words, **more))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, name="objects", daemon=True).start()
        return future.result()

    def _full(self, key: str) -> str:
        return self._prefix + (check_key(key) if key else "")

    @contextmanager
    def _trouble(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        where = f"{self.place}: {key}" if key else self.place
        try:
            yield
        except FileNotFoundError as error:  # Also what obstore raises for an object that is missing.
            if "NoSuchBucket" in str(error):
                raise ObjectsUnavailable(f"{where}: {_reason(error)}") from error
            raise ObjectMissing(f"{where}: no such object") from error
        except (BaseError, OSError) as error:
            raise ObjectsUnavailable(f"{where}: {_reason(error)}") from error


class _Given:
    """Content, and the error that it has raised: obstore hands that on like one of its own."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._content  # type: ignore[misc]
        except Exception as error:
            self.error = error
            raise


def _library() -> Any:
    """obstore, which only those have who want it."""
    try:
        import obstore
    except ImportError:
        raise ConfigError(f"s3: {lacking('s3', 'obstore')}") from None
    return obstore


def _reason(error: BaseException) -> str:
    """What a person wants to know of an error of obstore, whose text is a dump of all that it knows."""
    text = str(error)
    if code := _CODE.search(text):
        message = _MESSAGE.search(text)
        return f"{message[1].rstrip('.') if message else 'refused'} ({code[1]})"
    if system := _SYSTEM.search(text):
        return system[1] or system[2]
    if "TimedOut" in text:
        return "no answer in time"
    return text.partition("\n")[0].strip()
