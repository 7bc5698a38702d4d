"""Changing Sieve scripts: both for local users and for peers that speak of script files.

Both act on the mailbox ``user.X.#sieve`` (type ``f``), which comes into being with the first script. A
replica that is told of scripts by command owns that mailbox: its counters move as for a local change.
"""

from __future__ import annotations

import hashlib

from cyrus_sync.common.errors import InvalidUser, MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.script_mail import ACTIVE, StoredScript, sieve_mailbox
from cyrus_sync.common.sieve import check_name, check_syntax, name_of, to_message
from cyrus_sync.common.stores.native.flags import changed_flags
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.meta import ApplyMeta
from cyrus_sync.common.stores.native.sievebox import stored_scripts
from cyrus_sync.common.stores.native.tally import Tally
from cyrus_sync.common.stores.native.transaction import Box


class SieveChanges(ApplyMeta):
    """The verbs on scripts."""

    # -- local

    def put_script(self, name: str, content: bytes) -> None:
        self._put(check_name(name), content, self._around.now(), chained=False)

    def activate_script(self, name: str | None) -> None:
        self._activate(name, chained=False)

    def delete_script(self, name: str) -> None:
        if not self._delete(name, chained=False):
            raise MailboxNonexistent(f"no script {name!r}")

    # -- by command of a master

    def apply_sieve(self, filename: str, last_update: int, content: bytes) -> None:
        """Names that do not end in ``.script`` are accepted and ignored, as a real server does."""
        name = name_of(filename)
        if name is None or not filename.endswith(".script"):
            return
        self._put(check_name(name), content, last_update, chained=True)

    def apply_unsieve(self, filename: str) -> None:
        name = name_of(filename)
        if name is None:
            return
        script = stored_scripts(self).get(name)
        if filename.endswith(".script"):
            self._delete(name, chained=True)
        elif script is not None and script.active:
            # A 3.6 client whose user has switched the script off says only UNSIEVE X.bc, again at every
            # run, and never UNACTIVATE_SIEVE: a real replica goes on sorting by a script that is off.
            self._activate(None, chained=True)

    def apply_active_sieve(self, filename: str | None) -> None:
        self._activate(None if filename is None else name_of(filename) or filename, chained=True)

    # -- both

    def _put(self, name: str, content: bytes, when: int, *, chained: bool) -> None:
        check_syntax(content)
        box = self._sieve_box(chained)
        old = stored_scripts(self).get(name)
        if old and old.content == content and old.record.internaldate == when:
            return
        message = to_message(
            name, content, userid=self.owner.name, servername=self._around.servername, when=when
        )
        guid = hashlib.sha1(message).digest()
        store_bodies(self, [MessageBody("", guid, len(message), message)])
        modseq, now = self.next_modseq(), self._around.now()
        uid = box.state.last_uid + 1
        flags = ACTIVE if old and old.active else ""
        new = Record(uid, modseq, now, flags, False, when, len(message), guid, 0, now, modseq)
        tally = Tally(box)
        self.insert_records(box.id, tally, [new], stored={guid})
        if old:
            gone = old.record._replace(expunged=True, modseq=modseq, last_updated=now)
            self.update_records(box.id, tally, [old.record], [gone])
        self.set_columns(box.id, **tally.columns_at(modseq), last_uid=uid, last_appenddate=now)
        self.log("APPEND", box.state.name, chained=chained)
        self.log("MAILBOX", box.state.name, chained=chained)

    def _sieve_box(self, chained: bool) -> Box:
        name = sieve_mailbox(self.owner)
        box = self.find_box("name", name) if name else None
        if box and "f" not in box.state.mbtype and not box.state.intermediate:
            raise UnknownFailure("there is a mail folder where scripts are to be").at(mailbox=name)
        if box and not box.state.intermediate:
            return box
        if self.inbox() is None:
            raise InvalidUser().at(user=str(self.owner))
        if not chained:
            self.create(name, mbtype="f")
            return self.box(name)
        return self.create_box(name, mbtype="f")

    def _activate(self, name: str | None, *, chained: bool) -> None:
        scripts = stored_scripts(self)
        if name is not None and name not in scripts:
            raise MailboxNonexistent(f"no script {name!r}").at(user=str(self.owner))
        changes = []
        for script in scripts.values():
            active = script.name == name
            if active != script.active:
                flags = changed_flags(
                    script.record.flags, [ACTIVE] if active else (), () if active else [ACTIVE]
                )
                changes.append((script.record, script.record._replace(flags=flags)))
        self._change_scripts(changes, chained=chained)

    def _delete(self, name: str, *, chained: bool) -> bool:
        script: StoredScript | None = stored_scripts(self).get(name)
        if script is None:
            return False
        gone = script.record._replace(expunged=True, flags=changed_flags(script.record.flags, (), [ACTIVE]))
        self._change_scripts([(script.record, gone)], chained=chained)
        return True

    def _change_scripts(self, changes: list[tuple[Record, Record]], *, chained: bool) -> None:
        if not changes:
            return
        box = self.box(sieve_mailbox(self.owner))
        modseq, now = self.next_modseq(), self._around.now()
        tally = Tally(box)
        new = [record._replace(modseq=modseq, last_updated=now) for _, record in changes]
        self.update_records(box.id, tally, [was for was, _ in changes], new)
        self.set_columns(box.id, **tally.columns_at(modseq))
        self.log("MAILBOX", box.state.name, chained=chained)
