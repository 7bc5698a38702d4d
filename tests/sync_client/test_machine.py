"""The table of the rolling client: every cell, and the two rules that can be read off it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from cyrus_sync.sync_client.machine import TABLE, Action, Event, RollingState, step

CELLS = list(itertools.product(RollingState, Event))


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda value: value.name)
def test_every_cell_is_either_in_the_table_or_changes_nothing(state, event):
    assert step(state, event) == TABLE.get((state, event), (state, Action.NOTHING))


def test_a_stopped_client_stays_stopped():
    assert all(step(RollingState.STOPPED, event) == (RollingState.STOPPED, Action.NOTHING) for event in Event)


def test_nothing_but_stop_leads_towards_the_end():
    ending = {RollingState.FINISHING, RollingState.CLOSING, RollingState.STOPPED}
    for (state, event), (after, _) in TABLE.items():
        if state not in ending and after in ending:
            assert event is Event.STOP


def test_stop_is_heard_in_every_state():
    ending = {RollingState.FINISHING, RollingState.CLOSING, RollingState.STOPPED}
    for state in RollingState:
        assert step(state, Event.STOP)[0] in ending


def test_after_a_failure_there_is_always_a_wait_before_connecting():
    failures = (Event.CONNECT_FAILED, Event.LOST, Event.RUN_BROKEN)
    after = {step(state, event)[0] for state, event in TABLE if event in failures}
    assert after == {RollingState.BACKING_OFF, RollingState.CLOSING}
    into = {event for (_, event), (after, _) in TABLE.items() if after is RollingState.CONNECTING}
    assert into == {Event.START, Event.DUE, Event.HURRY, Event.CLOSED}


def test_from_every_state_the_end_can_be_reached():
    reached = {RollingState.STOPPED}
    while True:
        more = {state for (state, _), (after, _) in TABLE.items() if after in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(RollingState)


def test_every_action_is_used():
    assert {action for _, action in TABLE.values()} == set(Action)


def test_the_drawing_shows_this_table():
    drawing = Path(__file__).parents[2] / "docs/state-machines/rolling.dot"
    edges = re.findall(
        r'^\s*(\w+) -> (\w+) \[label="(\w+)(?: / (\w+))?"\]', drawing.read_text(), re.MULTILINE
    )
    drawn = {(a, event): (b, action or "NOTHING") for a, b, event, action in edges}
    assert drawn == {(s.name, e.name): (t.name, a.name) for (s, e), (t, a) in TABLE.items()}
