"""Restoring: what of a store is wanted, what a csync server has of it, and how the rest gets there."""
