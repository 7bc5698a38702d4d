"""What is written into an owner's index, a table or two a module: functions on a `Transaction`.

A function that is "a `change`" calls ``transaction.change()`` itself. Callers of all others have called it
before. Nothing here writes a line for the action log unless its docstring says so.
"""
