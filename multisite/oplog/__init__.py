"""The operations log of a replica: what was changed, by whom, and who is believed to know of it.

An operation is one transaction of the csync protocol in the octets that the wire carries, with its origin and
its number. It tells the state of the moment when it was captured. `Log` gives access to all tables of the
SQLite file below ``<configdirectory>/multisite``. Messages stay in the mail store; the file holds only such
messages as wait for an operation or are to be passed on (`held`).
"""
