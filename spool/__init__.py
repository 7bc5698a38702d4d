"""The spool of a real Cyrus, read beside its running daemons: never written, and hardly ever locked.

Formats of Cyrus 2.4 to 3.13. Whoever reads a mailbox gets what its checksums prove, or an error of that
mailbox.
"""
