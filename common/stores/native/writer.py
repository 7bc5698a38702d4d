"""`Writer`: what a caller may do to one owner, a line a verb. The work is done in `verbs`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.verbs import adopt as adopt_verbs
from cyrus_sync.common.stores.native.verbs import annotate, apply, folders, impose, messages, sieve
from cyrus_sync.common.stores.native.verbs import meta as meta_verbs

P = ParamSpec("P")
R = TypeVar("R")


def _reading(answer: Callable[Concatenate[Reader, P], R]) -> Callable[Concatenate[Writer, P], R]:
    """A method of a reader as a method of the writer; its own changes are seen."""

    @wraps(answer)
    def read(self: Writer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return answer(self.transaction.reader, *args, **kwargs)

    return read


def _verb(act: Callable[Concatenate[Transaction, P], R]) -> Callable[Concatenate[Writer, P], R]:
    """A function on a transaction as a method of the writer."""

    @wraps(act)
    def do(self: Writer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return act(self.transaction, *args, **kwargs)

    return do


class Writer:
    """The exclusive hold on one owner. `common.stores.mailstore.MailWriter` says what each verb means."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.owner = transaction.owner

    # -- reading

    mailboxes = _reading(Reader.mailboxes)
    mailbox = _reading(Reader.mailbox)
    mailbox_by_id = _reading(Reader.mailbox_by_id)
    tombstones = _reading(Reader.tombstones)
    tombstone = _reading(Reader.tombstone)
    former_names = _reading(Reader.former_names)
    records = _reading(Reader.records)
    new_guids = _reading(Reader.new_guids)
    live_uids = _reading(Reader.live_uids)
    tally = _reading(Reader.tally)
    recalculate_crcs = _reading(Reader.recalculate_crcs)
    has_guids = _reading(Reader.has_guids)
    bodies = _reading(Reader.bodies)
    body = _reading(Reader.body)
    note_damaged = _reading(Reader.note_damaged)
    damaged_guids = _reading(Reader.damaged_guids)
    unsound = _reading(Reader.unsound)
    readable = _reading(Reader.readable)
    quotas = _reading(Reader.quotas)
    quota = _reading(Reader.quota)
    usage = _reading(Reader.usage)
    meta = _reading(Reader.meta)
    seen = _reading(Reader.seen)
    sieve_content = _reading(Reader.sieve_content)
    sieve_scripts = _reading(Reader.sieve_scripts)
    annotations = _reading(Reader.annotations)
    highest_modseq = _reading(Reader.highest_modseq)

    savepoint = _verb(Transaction.savepoint)

    # -- what replication does

    apply_mailbox = _verb(apply.apply_mailbox)
    apply_expunge = _verb(meta_verbs.apply_expunge)
    apply_unmailbox = _verb(meta_verbs.apply_unmailbox)
    drop_childless = _verb(meta_verbs.drop_childless)
    apply_unuser = _verb(meta_verbs.apply_unuser)
    apply_quota = _verb(meta_verbs.apply_quota)
    apply_unquota = _verb(meta_verbs.apply_unquota)
    apply_sub = _verb(meta_verbs.apply_sub)
    apply_seen = _verb(meta_verbs.apply_seen)
    apply_annotation = _verb(meta_verbs.apply_annotation)
    apply_unannotation = _verb(meta_verbs.apply_unannotation)
    apply_sieve = _verb(sieve.apply_sieve)
    apply_unsieve = _verb(sieve.apply_unsieve)
    apply_active_sieve = _verb(sieve.apply_active_sieve)

    # -- what mail daemons do

    create = _verb(folders.create)
    append = _verb(messages.append)
    number_anew = _verb(folders.number_anew)
    renew = _verb(folders.renew)
    set_flags = _verb(messages.set_flags)
    expunge = _verb(messages.expunge)
    unexpunge = _verb(messages.unexpunge)
    copy = _verb(messages.copy)
    delete = _verb(folders.delete)
    set_acl = _verb(folders.set_acl)
    set_quota = _verb(folders.set_quota)
    annotate = _verb(annotate.annotate)
    subscribe = _verb(folders.subscribe)
    set_seen = _verb(folders.set_seen)
    put_script = _verb(sieve.put_script)
    activate_script = _verb(sieve.activate_script)
    delete_script = _verb(sieve.delete_script)

    # -- what settling a conflict does

    raise_counters = _verb(adopt_verbs.raise_counters)
    rewrite_records = _verb(adopt_verbs.rewrite_records)
    heal = _verb(adopt_verbs.heal)
    adopt = _verb(adopt_verbs.adopt)
    replace_mailbox_annotations = _verb(adopt_verbs.replace_mailbox_annotations)

    # -- what the import of a packet does

    impose_mailbox = _verb(impose.impose_mailbox)
    change_header = _verb(impose.change_header)
