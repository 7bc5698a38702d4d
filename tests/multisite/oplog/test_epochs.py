"""The matrix, and setting a row back to what was believed before."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Epochs, merged


@pytest.fixture
def epochs(tmp_path: Path) -> Epochs:
    return Epochs(Database(tmp_path))


def test_rows_are_put_raised_and_forgotten(epochs: Epochs) -> None:
    epochs.put("a", {"a": 5, "b": 2, "c": 0})
    assert epochs.row("a") == {"a": 5, "b": 2}
    epochs.raise_to("a", {"a": 3, "b": 7, "d": 1})
    assert epochs.row("a") == {"a": 5, "b": 7, "d": 1}
    epochs.put("a", {"a": 4})
    assert epochs.rows() == {"a": {"a": 4}}
    epochs.forget("a")
    assert epochs.row("a") == {}


def test_merged_takes_the_higher_number_of_each() -> None:
    assert merged({"a": 1, "b": 5}, {"b": 3, "c": 2}) == {"a": 1, "b": 5, "c": 2}


def test_an_export_raises_the_row_and_keeps_the_old_one(epochs: Epochs) -> None:
    epochs.put("b", {"a": 1})
    epochs.exported("b", {"a": 4}, time=100, packet="p1", comment="first")
    epochs.exported("c", {"a": 4}, time=150, packet="p2", comment="")
    assert epochs.row("b") == {"a": 4}
    (export,) = epochs.exports("b")
    assert (export.row, export.time, export.packet, export.comment) == ({"a": 1}, 100, "p1", "first")
    assert [one.packet for one in epochs.exports()] == ["p1", "p2"]


@pytest.fixture
def three(epochs: Epochs) -> Epochs:
    for time, number in ((100, 2), (200, 4), (300, 6)):
        epochs.exported("b", {"a": number}, time=time, packet=f"p{time}", comment="")
    return epochs


@pytest.mark.parametrize(("since", "row"), [(100, {}), (199, {}), (200, {"a": 2}), (999, {"a": 4})])
def test_recovering_sets_the_row_back_to_before_the_last_export_at_or_before_that_time(
    three: Epochs, since: int, row: dict[str, int]
) -> None:
    recovered = three.recover("b", since)
    assert recovered is not None and recovered.row == row == three.row("b")


def test_recovering_fails_where_no_export_is_old_enough(three: Epochs) -> None:
    assert three.recover("b", 99) is None and three.row("b") == {"a": 6}
    assert three.recover("c", 999) is None
