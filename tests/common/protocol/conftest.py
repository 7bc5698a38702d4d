"""Hypothesis on a machine that is busy with other things: slow is no failure.

``LONG_FUZZ=20000`` sets the number of examples a test, for a long run.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "busy",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("LONG_FUZZ", "100")),
)
settings.load_profile("busy")
