"""The family: all replicas of one mail store, in ``<configdirectory>/multisite/family.yaml``.

The file says which of them this server is. A replica is known by its id. Its name is what people type; it may
differ for a while between servers where two replicas were given the same one (`wanted`). Changes of replicas
are operations and travel in packets. Each carries a version, and the higher version counts.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from cyrus_sync.common.commands import reason
from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.multisite import plain_files
from cyrus_sync.multisite.errors import MultisiteError, NoFamily, UnknownReplica
from cyrus_sync.multisite.packet.errors import BadKeys
from cyrus_sync.multisite.packet.keys import PublicKeys
from cyrus_sync.multisite.packet.succession import Succession

FILE = "family.yaml"
INBOX_POLICIES = ("merge", "rename")
"""What becomes of an INBOX that was born at two sites: its messages go into one, or one gets another name."""

DEFAULT_CLASS = "-default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ANY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""A generated name is made of two."""
_ID = re.compile(r"[0-9a-f]{32}")
_LONGEST_TEXT = 64 << 10
_NUMBERS_END = 2**63


@dataclass(frozen=True, slots=True)
class Replica:
    """One server of the family.

    `host` is where its packets are shipped, `creator` the id of the replica that made it. `incarnation` is
    the Unix second of its last restore, 0 if there was none. `keys` are its present public keys
    (`multisite.packet.PublicKeys`), "" if it has none; `succession` is how they follow from those of its
    birth (`multisite.packet.succession`). From its operation number `signed` on, all that it says is signed;
    0 if it does not sign. `version` counts the changes of all this."""

    id: str
    name: str
    host: str = ""
    storage_class: str = DEFAULT_CLASS
    incarnation: int = 0
    creator: str = ""
    keys: str = ""
    version: int = 0
    removed: bool = False
    succession: str = ""
    signed: int = 0
    forked: int = 0
    """Its operations up to this number may differ from site to site (`multisite.oplog.forks`)."""
    inbox: str = ""
    """What it has said of the family: what becomes of an INBOX that two sites made (`INBOX_POLICIES`)."""
    inbox_version: int = 0
    """The family does what was said last, by the highest number."""
    wanted: str = ""
    """The name that it should have, where another replica has that name here; "" = it has it."""

    def text(self) -> str:
        """The replica as an operation carries it: JSON, with the name that it should have."""
        values = asdict(replace(self, name=self.wanted or self.name, wanted=""))
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @property
    def key_history(self) -> Succession | None:
        """All keys that it has had; None if it has none. Raises `BadKeys` where they are damaged."""
        if self.succession:
            return Succession.parse(self.succession)
        return Succession.begun(PublicKeys.parse(self.keys)) if self.keys else None

    def with_keys(self, history: Succession) -> Replica:
        """The same replica with these keys."""
        return replace(self, keys=history.current.text(), succession=history.text())


def replica_from(values: Any) -> Replica:
    """A replica out of YAML or an operation; raises `MultisiteError` for anything that `Replica` could not
    have written: other types, numbers that no database holds, keys that are none."""
    if not isinstance(values, dict):
        raise MultisiteError("not a replica: no fields")
    known = {name: values[name] for name in Replica.__dataclass_fields__ if name in values}
    try:
        made = Replica(**known)
    except TypeError as error:
        raise MultisiteError(f"not a replica: {error}") from None
    wrong = next(_faults(made), None)
    if wrong is not None:
        raise MultisiteError(f"not a replica: {wrong}")
    return made


def replica_of_text(text: str) -> Replica:
    """What `Replica.text` wrote. Raises `MultisiteError`."""
    if len(text) > _LONGEST_TEXT:
        raise MultisiteError(f"not a replica: {len(text)} characters")
    try:
        return replica_from(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise MultisiteError(f"not a replica: {str(error)[:100]}") from None


def _faults(one: Replica) -> Iterator[str]:
    """What is wrong with the fields of a replica."""
    for name in ("id", "name", "host", "storage_class", "creator", "keys", "succession", "wanted", "inbox"):
        if not isinstance(getattr(one, name), str):
            yield f"{name} is no text"
            return
    for name in ("incarnation", "version", "signed", "forked", "inbox_version"):
        number = getattr(one, name)
        if type(number) is not int or not 0 <= number < _NUMBERS_END:
            yield f"{name} is no number from 0 to 2^63 - 1"
    if type(one.removed) is not bool:
        yield "removed is neither true nor false"
    if not _ID.fullmatch(one.id) or (one.creator and not _ID.fullmatch(one.creator)):
        yield f"no id of a replica: {one.id[:40]!r}, {one.creator[:40]!r}"
    if not _ANY_NAME.fullmatch(one.name) or (one.wanted and not _NAME.fullmatch(one.wanted)):
        yield f"no name of a replica: {one.name[:80]!r}, {one.wanted[:80]!r}"
    if one.inbox and one.inbox not in INBOX_POLICIES:
        yield f"no policy for INBOXes: {one.inbox[:40]!r}"
    for name, longest in (("host", 255), ("storage_class", 64)):
        if len(getattr(one, name)) > longest or not getattr(one, name).isprintable():
            yield f"{name} is longer than {longest}, or has control characters"
    try:
        history = one.key_history
    except BadKeys as error:
        yield str(error)
    else:
        if history is not None and history.current.text() != one.keys:
            yield "its keys are not the last of those that it has had"


def check_replica_name(name: str) -> str:
    """`name` if a replica may be called so: letters, digits, ``_``, ``-`` and ``.``, 64 at most."""
    if not _NAME.fullmatch(name):
        raise MultisiteError(f"{name!r} is no name for a replica (letters, digits, _ - . only)")
    return name


def new_id() -> str:
    """A new replica's id: 32 hexadecimal digits, the first twelve of them the time in milliseconds. Where two
    replicas are equal the lower id decides: of two ids that were made here it is the older one's. Those of
    earlier releases are random, and nearly all of them higher."""
    return f"{time.time_ns() // 1_000_000:012x}"[-12:] + uuid.uuid4().hex[12:]


def check_is_there(directory: Path) -> None:
    """Raises `NoFamily` if there is no family file, `MultisiteError` if nobody can tell."""
    path = directory / FILE
    try:
        path.stat()
    except FileNotFoundError:
        raise NoFamily() from None
    except OSError as error:
        raise MultisiteError(f"{path}: {reason(error, path)}") from None


@dataclass(frozen=True, slots=True)
class Family:
    """All replicas, and which of them this server is (`self_id`). Immutable; `save` writes a new state."""

    id: str
    name: str
    self_id: str
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    restoring: Mapping[str, int] = field(default_factory=dict)
    """While this replica is being restored: id of a sibling that has not answered -> the incarnation for
    which its answer has to be."""
    telling: bool = False
    """Whether the log does not tell yet what the file says of this replica."""
    awaited: frozenset[str] = frozenset()
    """Ids of the replicas that had no keys when this one got its own: the first keys that they show are
    taken."""
    spool: bool = False
    """Whether the mail of this site is that of a real Cyrus. Else it is our store's."""

    # -- the file

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises `NoFamily` if there is no file, `MultisiteError` for one that cannot be used."""
        path = directory / FILE
        try:
            values = plain_files.load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NoFamily() from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MultisiteError(f"{path}: {reason(error, path)}") from None
        try:
            replicas = [replica_from(one) for one in values["replicas"]]
            return cls(
                str(values["family"]),
                str(values["name"]),
                str(values["self"]),
                {one.id: one for one in replicas},
                {str(key): int(number) for key, number in (values.get("restoring") or {}).items()},
                values.get("telling") is True,
                frozenset(map(str, values.get("awaited") or ())),
                values.get("mail") == "cyrus",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MultisiteError(f"{path}: not a family file ({error})") from None

    def save(self, directory: Path) -> None:
        """Replace the file, durably."""
        values: dict[str, Any] = {
            "family": self.id,
            "name": self.name,
            "self": self.self_id,
            "replicas": [
                {name: value for name, value in asdict(one).items() if value not in ("", 0, False)}
                for one in sorted(self.replicas.values(), key=lambda one: one.name)
            ],
        }
        if self.restoring:
            values["restoring"] = dict(self.restoring)
        if self.telling:
            values["telling"] = True
        if self.awaited:
            values["awaited"] = sorted(self.awaited)
        if self.spool:
            values["mail"] = "cyrus"
        make_directories(directory)
        write_over(directory / FILE, plain_files.dump(values), 0o600)

    # -- replicas

    @property
    def myself(self) -> Replica:
        """This server's replica."""
        return self.replicas[self.self_id]

    @property
    def inbox_policy(self) -> str:
        """One of `INBOX_POLICIES`: what was said last in the family."""
        said = max((one.inbox_version, one.id, one.inbox) for one in self.replicas.values())
        return said[2] or INBOX_POLICIES[0]

    def living(self) -> list[Replica]:
        """All replicas that were not removed, by name."""
        return sorted((one for one in self.replicas.values() if not one.removed), key=lambda one: one.name)

    @property
    def has_keys(self) -> bool:
        """Whether any replica has keys: then no stranger is believed."""
        return any(one.keys for one in self.replicas.values())

    def find(self, selector: str) -> Replica:
        """The replica that ``name``, ``name@family`` or an id means; raises `UnknownReplica`."""
        name, at, family = selector.removeprefix("replica:").partition("@")
        if at and family.lstrip("\\/") != self.name:
            raise UnknownReplica(f"{selector}: this is the family {self.name!r}")
        found = [one for one in self.living() if name in (one.name, one.id)]
        if not found:
            raise UnknownReplica(f"no replica {name!r} in the family {self.name!r}")
        return found[0]

    def name_of(self, replica: str) -> str:
        """The name of a replica (id), for people and for generated names; the id if it is unknown."""
        found = self.replicas.get(replica)
        return found.name if found else replica

    def was_restored(self, replica: str) -> bool:
        """Whether a replica has ever come back from a backup, as far as is known here."""
        found = self.replicas.get(replica)
        return found is not None and found.incarnation > 0

    def selector(self, replica: str) -> str:
        """``name@family``, for people."""
        return f"{self.name_of(replica)}@{self.name}"

    def named(self, name: str, *, but: str = "") -> Replica | None:
        """The living replica that is called `name` here, other than the one with the id `but`."""
        return next((one for one in self.living() if one.name == name and one.id != but), None)

    def with_replica(self, one: Replica) -> Family:
        """The family in which the replica of that id is `one`."""
        return replace(self, replicas={**self.replicas, one.id: one})

    def with_replicas(self, some: Iterable[Replica]) -> Family:
        """The same for several replicas."""
        return replace(self, replicas={**self.replicas, **{one.id: one for one in some}})
