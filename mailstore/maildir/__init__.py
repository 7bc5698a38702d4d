"""The files of a Maildir++ as Dovecot (and Courier) keep them: names, flags, UIDs, subscriptions. No I/O."""
