"""A user's Sieve scripts, made those of the server."""

from __future__ import annotations

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.sieve import check_name, name_of
from cyrus_sync.common.stores.mailstore import MailReader, MailStore
from cyrus_sync.pull.managesieve import Scripts
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled


def pull_scripts(store: MailStore, userid: str, told: Scripts, done: Pulled) -> None:
    """Raises `StoreError`, `MailboxLocked`; a script that cannot be kept is named and left out."""
    owner = Owner("user", userid)
    with store.read(owner) as reader:
        there, active = _here(reader)
    new = {name: content for name, content in told.contents.items() if there.get(name) != content}
    gone = there.keys() - told.contents.keys()
    if not new and not gone and active == told.active:
        return
    with store.write(owner, timeout=LOCK_TIMEOUT) as writer:
        for name, content in new.items():
            try:
                with writer.savepoint():
                    writer.put_script(check_name(name), content)
            except ReplyError as error:
                done.troubles.append(f"script {name}: left out: {error}")
        for name in gone:
            writer.delete_script(name)
        kept, active = _here(writer)
        if active != told.active and (not told.active or told.active in kept):
            writer.activate_script(told.active or None)
    done.besides += 1


def _here(reader: MailReader) -> tuple[dict[str, bytes], str]:
    """Our scripts, and which one is active."""
    contents, active = {}, ""
    for script in reader.sieve_scripts():
        name = name_of(script.filename)
        if name is None:
            continue
        if script.filename.endswith(".script"):
            contents[name] = reader.sieve_content(script.filename) or b""
        elif script.active:
            active = name
    return contents, active
