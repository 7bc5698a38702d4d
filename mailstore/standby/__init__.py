"""Trees that a Dovecot serves when the master is gone, kept in step with the store.

A tree is one user's Maildir++, with the UIDs, UIDVALIDITY, flags, dates and octets that the store has. Beside
it stands a *ledger* of what we have written there. What is there and is not in the ledger somebody else
wrote: users did, after a failover. Such a tree is *written to*; nothing of it is changed until an
administrator says so.

The order of a change: the ledger says what is *meant*, the tree is changed under Dovecot's own lock, the
ledger says that it is so. Whatever is interrupted is found by its names, and done again.
"""
