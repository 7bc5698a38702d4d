"""The embedded store: per owner one SQLite index and append-only packs of zstd-compressed messages.

`docs/store-format.md` describes the files. `store.NativeStore` is the way in. From the bottom up:

* files, locks and connections: `layout`, `locks`, `schema`, `packs`, `bodies`, `opened`, `registry`, …
* `reader.Reader` answers from a snapshot; `rows` turns rows into values and back.
* `transaction.Transaction` is the unit of work: it has a reader, packs, lines for the action log.
* `tables`: what is written into the index; `intake`: what is written into packs. Functions on a transaction.
* `verbs`: what a caller may ask for, as functions on a transaction; `writer.Writer` gathers them.
* `store` locks, opens, commits. `care` does what concerns whole owners: `expire`, `verify`, `rename`, …
"""
