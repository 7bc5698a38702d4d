"""Hypothesis on a machine that is busy with other things: slow is no failure, and CI is repeatable."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("busy"), max_examples=20_000)
settings.load_profile("long" if os.environ.get("LONG_FUZZ") else "busy")
