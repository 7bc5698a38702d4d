"""The operations log of a replica: what was changed, by whom, and who is believed to know of it.

An operation is one transaction of the csync protocol in the octets that the wire carries, with its origin
and number. Its state is that of the moment when it was captured; messages stay in the mail store.
"""
