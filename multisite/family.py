"""The family: all replicas of one mail store, in ``<configdirectory>/multisite/family.yaml``.

The file says which of them this server is. A replica is known by its id; its name is what people type, and
may differ for a while between servers where two replicas were given the same one (`wanted`).
Changes of replicas are operations and travel in packets; each carries a version, and the higher one counts.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from multisite.errors import MultisiteError, NoFamily, UnknownReplica
from multisite.shipping.files import write_over

FILE = "family.yaml"
DEFAULT_CLASS = "-default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Replica:
    """One server of the family. `incarnation` is the Unix second of its last restore, 0 if never; the keys
    are texts of `multisite.packet.PublicKeys`, "" if it has none."""

    id: str
    name: str
    host: str = ""
    storage_class: str = DEFAULT_CLASS
    incarnation: int = 0
    creator: str = ""
    keys: str = ""
    version: int = 0
    removed: bool = False
    wanted: str = ""
    """The name that it should have, where another replica has it here; "" = it has it."""

    def text(self) -> str:
        """The replica as an operation carries it: JSON, under the name that it should have."""
        values = asdict(replace(self, name=self.wanted or self.name, wanted=""))
        return json.dumps(values, sort_keys=True, separators=(",", ":"))


def replica_from(values: Any) -> Replica:
    """A replica out of YAML or an operation; raises `MultisiteError` for what is none."""
    try:
        known = {name: values[name] for name in Replica.__dataclass_fields__ if name in values}
        made = Replica(**known)
        good = (
            _ID.fullmatch(made.id)
            and _NAME.fullmatch(made.name)
            and all(isinstance(x, str) for x in (made.host, made.storage_class, made.keys, made.wanted))
            and isinstance(made.incarnation, int)
            and isinstance(made.version, int)
            and isinstance(made.removed, bool)
        )
    except (TypeError, KeyError) as error:
        raise MultisiteError(f"not a replica: {error}") from None
    if not good:
        raise MultisiteError(f"not a replica: {str(values)[:200]}")
    return made


def check_replica_name(name: str) -> str:
    """`name` if a replica may be called so: letters, digits, ``_``, ``-`` and ``.``, 64 at most."""
    if not _NAME.fullmatch(name):
        raise MultisiteError(f"{name!r} is no name for a replica (letters, digits, _ - . only)")
    return name


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Family:
    """Immutable; `save` writes a new state."""

    id: str
    name: str
    self_id: str
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    restoring: Mapping[str, int] = field(default_factory=dict)
    """While this replica is being restored: other replica's id -> incarnation whose answer is awaited."""

    # -- the file

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises `NoFamily` if there is no file, `MultisiteError` for one that cannot be used."""
        path = directory / FILE
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NoFamily() from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MultisiteError(f"{path}: {error}") from None
        try:
            replicas = [replica_from(one) for one in values["replicas"]]
            return cls(
                str(values["family"]),
                str(values["name"]),
                str(values["self"]),
                {one.id: one for one in replicas},
                {str(key): int(number) for key, number in (values.get("restoring") or {}).items()},
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
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        directory.mkdir(parents=True, exist_ok=True)
        write_over(directory / FILE, text.encode(), 0o640)

    # -- replicas

    @property
    def myself(self) -> Replica:
        return self.replicas[self.self_id]

    def living(self) -> list[Replica]:
        """All that were not removed, by name."""
        return sorted((one for one in self.replicas.values() if not one.removed), key=lambda one: one.name)

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
        """Its name, for people and for generated names; the id of one that is unknown."""
        found = self.replicas.get(replica)
        return found.name if found else replica

    def was_restored(self, replica: str) -> bool:
        """Whether a replica has ever come back from a backup, as far as is known here."""
        found = self.replicas.get(replica)
        return found is not None and found.incarnation > 0

    def selector(self, replica: str) -> str:
        return f"{self.name_of(replica)}@{self.name}"

    def named(self, name: str, *, but: str = "") -> Replica | None:
        """The living replica that is called `name` here, other than the one with the id `but`."""
        return next((one for one in self.living() if one.name == name and one.id != but), None)

    def with_replica(self, one: Replica) -> Family:
        return replace(self, replicas={**self.replicas, one.id: one})

    def with_replicas(self, some: Iterable[Replica]) -> Family:
        return replace(self, replicas={**self.replicas, **{one.id: one for one in some}})
