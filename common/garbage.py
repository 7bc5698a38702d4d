"""How often Python looks for garbage that reference counts do not free.

By default it looks after every 700 objects that hold others, and a look now and then goes through all there
are: in a process that makes records by the hundred thousand, and has loaded some hundred modules, that is a
quarter of its time. What is loaded stays, so nobody need look at it; and such garbage is rare here (what has
failed, with the frames that it went through).
"""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20
"""Objects after which the youngest are looked through; looks after which older ones are, and all."""


def look_rarely() -> None:
    """To be called when a process begins, before it loads much. Until `keep_what_is_loaded` nobody looks."""
    gc.disable()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def keep_what_is_loaded() -> None:
    """Nothing that there is by now is looked at again, not even at the end of the process."""
    gc.freeze()
    gc.enable()
