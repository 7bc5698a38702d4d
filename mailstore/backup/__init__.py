"""Backups of a store in an object store: docs/backup-format.md says what they are made of."""
