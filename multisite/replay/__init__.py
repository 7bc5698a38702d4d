"""Carrying out the operations of others on this replica's mail store.

What its master says of an owner is imposed, with our own changes that he does not know yet kept on top
(`rebase`). What others say of an owner whose master we are is settled by the message rules of a live pair
(`settle`). What neither concerns is only passed on.
"""
