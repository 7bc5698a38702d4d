"""The embedded store: per owner one SQLite index and append-only packs of zstd-compressed messages.

`docs/store-format.md` describes the files. `NativeStore` (in `store`) is the way in; a reader is
`reader.Reader`, a writer `writer.Writer`, which gathers one module of verbs each: `apply`, `meta`,
`sieve`, `local`, `settle`. `rename`, `expire` and `verify` work on whole owners.
"""
