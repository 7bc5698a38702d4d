"""``cyrus-sync``: what an administrator does with a whole server, one module of `tool.commands` each."""
