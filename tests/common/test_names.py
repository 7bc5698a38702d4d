"""Names: who is above whom."""

from __future__ import annotations

import pytest

from cyrus_sync.common.names import parent_of


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("projects", None),
        ("projects.one", "projects"),
        ("user.bob", None),
        ("user.bob.Work.Sub", "user.bob.Work"),
        ("example.org!projects", None),
        ("example.org!projects.one", "example.org!projects"),
        ("example.org!user.bob", None),
        ("example.org!user.bob.Work", "example.org!user.bob"),
    ],
)
def test_the_dots_of_a_domain_are_no_levels(name: str, parent: str | None) -> None:
    assert parent_of(name) == parent
