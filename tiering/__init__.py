"""Packs of a local store that live in an object store (docs/tiering.md)."""
