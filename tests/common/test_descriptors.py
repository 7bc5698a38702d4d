"""What a process keeps open fits the files that it may open."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from cyrus_sync.common.descriptors import share_out

_PROGRAM = """
import resource
from cyrus_sync.common.descriptors import raise_soft_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
print(raise_soft_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("limit", [64, 100, 256, 1024, 16384, 65536])
def test_all_shares_together_fit(limit: int) -> None:
    shares = share_out(limit)
    assert 24 + shares.threads * 14 + shares.owners * 10 + shares.connections * 2 <= limit
    assert min(shares) >= 1


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    made = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["300", "(300,", "300)"]


def test_the_limit_of_this_process_counts_where_none_is_given() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert share_out().limit == min(soft, 65536) or soft == resource.RLIM_INFINITY
