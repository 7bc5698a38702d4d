"""How often Python looks for cyclic garbage.

By default it looks whenever 700 more tuples, lists and objects were made than freed. Reading 20,000 records
makes far more than that, none of it garbage, and the search was a tenth of both ends' work.
"""

from __future__ import annotations

import gc

_NEW_OBJECTS = 20_000
"""Between two looks; a few MB at most."""


def collect_rarely() -> None:
    """To be called by a command once everything is imported: what exists now stays, and is not searched."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
