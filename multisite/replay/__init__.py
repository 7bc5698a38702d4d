"""Carrying out the operations of other replicas on this replica's mail store.

The word of an owner's master is applied here, and our own changes that the master does not know yet are kept
on top of it (`apply_master`, `rebase`). Where this replica is the owner's master, it arbitrates the
operations of others by the message rules of a live pair (`arbitrate`). All other operations are only passed
on.
"""
