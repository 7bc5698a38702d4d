"""What imapd.conf says of a real Cyrus's spool: where its files are, and how they are spread out.

The defaults are Cyrus's own, which are the same in 3.2 to 3.13. What kind a database is is told by its first
octets, so ``mboxlist_db`` and its like matter only where there is no file to look into: ``quotalegacy`` (a
directory) and ``sql``.
"""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.names import DELETED_PREFIX

META_FILES = ("header", "index", "annotations")
"""The files about a mailbox that we read, as `metapartition_files` calls them."""


@dataclass(frozen=True, slots=True)
class SpoolConfig:
    """The same as values."""

    configdirectory: Path
    partitions: dict[str, Path]
    archives: dict[str, Path]
    """Where archived messages are, by partition."""
    metadata: dict[tuple[str, str], Path]
    """Where the files about mailboxes are that are not with the messages, by kind and partition."""
    mailboxes: Path
    annotations: Path
    quotas: Path
    """A directory for quotalegacy, else a file."""
    quotalegacy: bool
    sieve: Path
    sieve_in_homes: bool
    conversations: bool
    """Whether they are counted."""
    hashed: bool
    """``hashimapspool``"""
    full_hash: bool
    """``fulldirhash``"""
    domains: bool
    """Any ``virtdomains`` but off."""
    dots_first: bool
    """``improved_mboxlist_sort``"""
    sqlite: Path | None
    """The file of databases of the kind sql; None = each has its own."""
    sql_databases: frozenset[str]
    """Of ``mboxlist_db`` and ``quota_db``, those of this kind."""

    @classmethod
    def from_config(cls, cfg: Config) -> SpoolConfig:
        """Raises `ConfigError` for what cannot be read from outside."""
        conf = cfg.configdirectory
        prefix = cfg.string("deletedprefix")
        if prefix != DELETED_PREFIX:
            raise ConfigError(
                f"{cfg.where('deletedprefix')}mailboxes are deleted below {prefix}: of a spool only"
                f" {DELETED_PREFIX} can be read"
            )
        sql = frozenset(name for name in ("mboxlist_db", "quota_db") if cfg.string(name) == "sql")
        engine = cfg.string("sql_engine") or "sqlite"
        if sql and engine != "sqlite":
            raise ConfigError(
                f"{cfg.where('sql_engine')}databases in {engine} cannot be read, only in sqlite"
            )
        legacy = cfg.string("quota_db") == "quotalegacy"
        quotas = conf / "quota" if legacy else _path(cfg, "quota_db_path", conf / "quotas.db")
        database = cfg.string("sql_database")
        return cls(
            configdirectory=conf,
            partitions=cfg.partitions,
            archives=cfg.directories("archivepartition-"),
            metadata=_metadata(cfg),
            mailboxes=list_of_mailboxes(cfg),
            annotations=_path(cfg, "annotation_db_path", conf / "annotations.db"),
            quotas=quotas,
            quotalegacy=legacy,
            sieve=Path(cfg.string("sievedir") or "/usr/sieve"),
            sieve_in_homes=cfg.switch("sieveusehomedir"),
            conversations=cfg.switch("conversations"),
            hashed=cfg.switch("hashimapspool"),
            full_hash=cfg.switch("fulldirhash"),
            # Our own default is another than Cyrus's.
            domains=cfg.is_set("virtdomains") and cfg.string("virtdomains") != "off",
            dots_first=cfg.switch("improved_mboxlist_sort"),
            sqlite=Path(database) if database else None,
            sql_databases=sql,
        )

    def meta_directory(self, kind: str, partition: str) -> Path:
        """Where the files of a `kind` of META_FILES are for the mailboxes of `partition`; KeyError for a
        partition that is not configured."""
        return self.metadata.get((kind, partition)) or self.partitions[partition]


def list_of_mailboxes(cfg: Config) -> Path:
    """Where mailboxes.db is, if there is one."""
    return _path(cfg, "mboxlist_db_path", cfg.configdirectory / "mailboxes.db")


def _path(cfg: Config, name: str, default: Path) -> Path:
    named = cfg.string(name)
    return Path(named) if named else default


def _metadata(cfg: Config) -> dict[tuple[str, str], Path]:
    chosen = cfg.words("metapartition_files")
    found: dict[tuple[str, str], Path] = {}
    for partition, directory in cfg.directories("metapartition-").items():
        found.update({(kind, partition): directory for kind in META_FILES if kind in chosen})
    for kind, option in (("header", "header"), ("index", "index"), ("annotations", "index")):
        for partition, directory in cfg.directories(f"metadir-{option}-").items():
            found[kind, partition] = directory
    return found
