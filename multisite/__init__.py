"""Replication without a line between the sites: shipping of files, store and forward.

`multisite.shipping` moves files from host to host and knows nothing of mail.
"""
