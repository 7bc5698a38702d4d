"""The fleet: a store of many nodes. PostgreSQL decides which commits count, an object store holds the bulk,
and the directory of an owner on a node is a cache.

`home` is the `OwnerHome` that a native store works on. `opening` makes one of imapd.conf.
"""
