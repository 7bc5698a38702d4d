"""The fuzzer's short run, and that it would notice what it looks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import corpus
from tests.faults.fuzz_server import Broken, Fuzzer, answer_lines
from tests.faults.server import RunningServer

SECONDS = float(os.environ.get("CYRUS_SYNC_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("CYRUS_SYNC_FUZZ_SEED", "20"))


@pytest.mark.fault
@pytest.mark.timeout(SECONDS + 120)
def test_spoiled_conversations_do_no_harm(tmp_path: Path) -> None:
    with RunningServer(tmp_path, failed_login_pause=0) as server:
        fuzzer = Fuzzer(server, SEED)
        fuzzer.prepare()
        figures = fuzzer.run(SECONDS)
    assert figures.cases > 5 * SECONDS
    assert figures.in_step > figures.cases / 3


@pytest.mark.covers("What a robust server minds", "12")
@pytest.mark.fault
def test_the_fuzzer_notices_a_change_of_the_bystander(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        fuzzer = Fuzzer(server, 1)
        fuzzer.prepare()
        server.talk([b"APPLY UNUSER bystander"])
        with pytest.raises(Broken, match="bystander has changed"):
            fuzzer.check_server()


@pytest.mark.fault
def test_the_fuzzer_notices_a_file_outside_the_store(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        fuzzer = Fuzzer(server, 1)
        fuzzer.prepare()
        (tmp_path / "a" / "escape").write_text("x")
        with pytest.raises(Broken, match="outside the store"):
            fuzzer.check_server()


@pytest.mark.fault
def test_the_fuzzer_notices_a_server_that_died(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        fuzzer = Fuzzer(server, 1)
        server.kill()
        with pytest.raises(AssertionError, match="ended with"):
            fuzzer.check_server()


def test_a_case_is_the_same_for_the_same_seed() -> None:
    import random

    commands = [c for own in corpus.conversations().values() for c in own]
    first = [corpus.spoil(random.Random(f"1/{n}"), commands[n % len(commands)]) for n in range(200)]
    again = [corpus.spoil(random.Random(f"1/{n}"), commands[n % len(commands)]) for n in range(200)]
    assert first == again


def test_answers_are_cut_into_lines_with_their_literals() -> None:
    stream = b"* MESSAGE %{default " + b"a" * 40 + b" 6}\r\nOK\r\nxx\r\nOK success\r\n"
    assert answer_lines(stream)[1:] == [b"OK success\r\n"]
    assert len(answer_lines(b"* X {4}\r\n\r\nNO\r\nOK success\r\n")) == 2


def test_every_recorded_conversation_is_cut_into_commands() -> None:
    found = corpus.conversations()
    assert len(found) >= 15
    verbs = {command.split(b" ")[0] for own in found.values() for command in own}
    assert verbs <= {b"GET", b"APPLY", b"RESTART", b"C01", b"NOOP", b"Q01"}
