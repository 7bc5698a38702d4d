"""What the installed commands call. Nothing is imported before Ctrl-C is taken care of.

Python's libraries take some tenths of a second to load; an impatient user who ends a command in that time
must not be shown a traceback. From there on `common.commands.run_command` answers for it. A command's own
`main` is what everybody else calls.
"""

import signal
from importlib import import_module

from cyrus_sync.common.garbage import keep_what_is_loaded, look_rarely
from cyrus_sync.common.lean import begin_lean

INTERRUPTED = 130
"""As `common.errors.EX_INTERRUPTED`, which would have to be imported."""


def _run(module: str, function: str = "main") -> int:
    """The exit status of ``module.function()``, which is imported first."""
    before = signal.getsignal(signal.SIGINT)
    loading = before is signal.default_int_handler
    if loading:  # whoever ignores it (nohup) goes on doing so
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends us at once; to a shell that is 130, too
    look_rarely()
    begin_lean()
    main = getattr(import_module(module), function)
    keep_what_is_loaded()
    try:
        if loading:
            signal.signal(signal.SIGINT, before)
        return int(main())
    except KeyboardInterrupt:  # before or after what `run_command` answers for
        return INTERRUPTED


def sync_client() -> int:
    return _run("cyrus_sync.sync_client.cli")


def sync_server() -> int:
    return _run("cyrus_sync.sync_server.cli")


def mailstore() -> int:
    return _run("cyrus_sync.mailstore.cli")


def cyr_synclog() -> int:
    return _run("cyrus_sync.common.synclog.cli")


def sync_reset() -> int:
    return _run("cyrus_sync.mailstore.reset")


def shipping_server() -> int:
    return _run("cyrus_sync.shipping.cli")


def mkorder() -> int:
    return _run("cyrus_sync.shipping.mkorder")


def syncreplica() -> int:
    return _run("cyrus_sync.multisite.multitool", "syncreplica")


def cyrus_sync() -> int:
    return _run("cyrus_sync.tool.cli")


def sync_export_list() -> int:
    return _run("cyrus_sync.multisite.multitool", "sync_export_list")


def sync_receive() -> int:
    return _run("cyrus_sync.multisite.multitool", "sync_receive")


def multitool() -> int:
    return _run("cyrus_sync.multisite.multitool")
