"""Mail that another IMAP server holds, pulled into our store beside it: one user at a time, and of him what
has changed.

Everything here blocks and is called in threads. The client is Python's own imaplib (README says why);
`answers` reads what a server says, `connection` is one conversation, `listing` what there is, `folder` one
folder's messages, `about` what is known of folders besides, `puller` all of one user."""
