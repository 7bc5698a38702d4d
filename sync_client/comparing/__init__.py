"""``--compare``: is the replica what the master is? Both ends are only looked at.

`states` compares by what both sides tell of their mailboxes, `records` by records, `messages` by the octets
that are stored. `comparer` does so for one owner after the other over one connection; `command` is the whole
run, at a rate, to be gone on with after it was killed (`progress`), with a signed report (`report`,
`signing`).
"""
