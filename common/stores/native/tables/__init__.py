"""What is written into an owner's index, a table or two a module: functions on a `Transaction`.

Whoever calls them sees to it that ``transaction.change()`` has been called where a function does not say that
it does. Nothing here writes a line for the action log unless its docstring says so.
"""
