"""Benchmarks of replication, one command: ``python -m bench``. Real Cyrus and ours on either end."""
