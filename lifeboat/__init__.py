"""The lifeboat: a store's mail, read-only over IMAP4rev1 (RFC 3501), while the mail server is gone.

Users read on with the same folders, UIDs and UIDVALIDITY that they had; every change is answered
``NO [READ-ONLY]``. Twisted carries the connections. Its own IMAP server was tried for the rest: it answers
a partial FETCH with the whole, writes header fields anew, and finds no keywords. So answers are made here.
"""
