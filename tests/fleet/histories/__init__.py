"""Histories in the manner of Jepsen: clients at several nodes of a fleet, while parts of it are killed,
stopped and cut off; and whether what they were told goes together.

``python -m tests.fleet.histories --count 1000`` makes many; a failure names its seed.
"""
