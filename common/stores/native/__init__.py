"""The embedded store: per owner one SQLite index and append-only packs of zstd-compressed messages.

`docs/store-format.md` describes the files. `store.NativeStore` is the way in. From the bottom up:

* `homes.OwnerHome` says where owners' directories are and what makes a commit count; `local_home` has them on
  this machine, with `layout`, `partitions`, `registry`, `locks`.
* an owner's files: `schema`, `packs`, `bodies`, and `opened`, which keeps them open.
* `reader.Reader` answers from a snapshot; `rows` turns rows into values and back.
* `transaction.Transaction` is the unit of work: it has a reader, packs, lines for the action log.
* `tables`: what is written into the index; `intake`: what is written into packs. Functions on a transaction.
* `verbs`: what a caller may ask for, as functions on a transaction; `writer.Writer` gathers them.
* `changing` is one change, from the lock to the line in the action log; `store` is the contract.
* `care` does what concerns whole owners: `expire`, `verify`, `rename`, …
"""
