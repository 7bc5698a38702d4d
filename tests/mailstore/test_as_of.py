"""``mailstore dump --as-of``: what was there at a time. What is put back is in `test_restore_command`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import MESSAGE, Site, later


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path, "unixhierarchysep: yes\n")
    site.ok("create", "user/alice", "user/alice/Work")
    for _ in range(3):
        site.ok("deliver", "-m", "user/alice/Work", "alice", stdin=MESSAGE)
    site.ok("sieve", "put", "alice", "main", stdin=b"keep;\n")
    later(site, 7200)
    return site


@pytest.mark.covers("mailstore: commands and options", "dump --as-of")
def test_what_was_done_since_is_not_in_it(site: Site) -> None:
    before = site.ok("dump", "alice").out
    site.ok("flag", "-a", "\\Seen", "user/alice/Work", "1")
    site.ok("expunge", "user/alice/Work", "2")
    later(site, 3600)
    between = site.ok("dump", "alice").out
    site.ok("rename", "user/alice/Work", "user/alice/Play")
    site.ok("setacl", "user/alice", "bob", "lrs")
    site.ok("sieve", "delete", "alice", "main")
    assert site.ok("dump", "alice", "--as-of", "90m").out == before
    assert site.ok("dump", "alice", "--as-of", "30m").out == between
    assert site.ok("dump", "--as-of", "30m", "--format", "json").out.startswith("{")
    site.ok("delete", "--immediate", "-r", "user/alice")
    assert site.ok("dump", "alice", "--as-of", "30m").out == between


def test_a_time_that_is_not_known_is_refused_with_what_is(site: Site) -> None:
    refused = site.run("dump", "alice", "--as-of", "3h")
    assert refused.status == 1
    assert "what was at that time is not known: the history begins at 20" in refused.err
    everybody = site.run("dump", "--as-of", "3h")
    assert everybody.status == 1 and "what was at that time is not known" in everybody.err
    assert site.run("dump", "--as-of", "2031-01-01").status == 64
    assert "no such user" in site.run("dump", "nobody", "--as-of", "1h").err


def test_a_cyrus_keeps_no_history(site: Site) -> None:
    refused = site.run("dump", "--as-of", "1h", "--source", "cyrus")
    assert refused.status == 64 and "--as-of is of our own store" in refused.err
