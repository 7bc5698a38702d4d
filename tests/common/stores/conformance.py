"""The contract of `MailStore` as tests. A store passes if a subclass with `make` does.

>>> class TestMyStore(StoreConformance):
...     def make(self, path, log, clock):
...         return MyStore(path, log, clock)
"""

from __future__ import annotations

from tests.common.stores.conformance_common import CommonConformance
from tests.common.stores.conformance_imposing import ImposingConformance
from tests.common.stores.conformance_local import LocalConformance
from tests.common.stores.conformance_replica import ReplicaConformance


class StoreConformance(ReplicaConformance, LocalConformance, ImposingConformance, CommonConformance):
    """Everything."""
