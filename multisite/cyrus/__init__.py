"""A real Cyrus as the mail of a site: read in its spool beside its daemons (`cyrus_sync.spool`)."""
