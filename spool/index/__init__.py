"""cyrus.index of versions 12 to 20: its header, its records, and the checksums that prove both."""
