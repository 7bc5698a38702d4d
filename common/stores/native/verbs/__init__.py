"""The verbs of `MailWriter`, as functions on a `Transaction`: what each of them means is said there.

They call `tables` and write the lines of the action log. `writer` gathers them.
"""
