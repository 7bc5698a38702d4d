"""Figures for a monitoring system: counted for next to nothing, told to Prometheus when it asks.

What counts (`tallies`) are plain numbers of the reactor's thread. Nothing of ``prometheus_client`` is loaded
before somebody wants to be told (`exporter`), and what is told is made in a thread. No label holds the name
of a user or a mailbox: each has a bounded number of values.
"""
