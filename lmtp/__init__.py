"""Delivery into the store by LMTP (RFC 2033), as Cyrus's lmtpd does it: `cyrus-sync lmtp`.

Twisted carries the connections. Two servers were tried for the rest. Twisted's own (``twisted.mail.smtp``)
gives one answer a message, where LMTP has one for each recipient, and calls Python for each line of it.
aiosmtpd has LMTP and is about as fast, but keeps a message whole and in memory several times (155 MB for one
of 25 MB), knows neither BODY nor IGNOREQUOTA of lmtpd, and lives in asyncio, where our TLS and our threads
are not. LMTP is ten commands, so they are here (`commands`); a message is looked at in whole buffers
(`octets`).
"""
