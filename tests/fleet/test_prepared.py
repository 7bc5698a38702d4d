"""Statements that are prepared: planned once, and said in the usual way where nobody knows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.prepared import Statement

SUM = Statement.of("SELECT %s::bigint + %s::bigint, %s || 'ö', %b, NULL::text")
BACK = [(7, "grüße ö", b"\0\xff", None)]
VALUES = (2**40, 7 - 2**40, "grüße ", b"\0\xff")


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    with closing(Server(database)) as server:
        yield server


def known(server: Server) -> int:
    """How many of our statements the connection has."""
    rows = server.ask("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'cyrus_sync_%'")
    return int(rows[0][0])


def test_a_statement_is_planned_once_and_returns_what_it_would(server):
    assert server.ask(SUM.query, *VALUES) == BACK
    for _ in range(3):
        assert server.ask(SUM, *VALUES) == BACK
    assert server.ask(Statement.of("SELECT %s::text WHERE false"), "x") == []
    assert known(server) == 2


def test_octets_that_do_not_go_at_once_arrive(server):
    much = bytes(range(256)) * 4 * 8192
    assert server.ask(Statement.of("SELECT length(%b)::bigint, %b"), much, much) == [(len(much), much)]


def test_a_connection_that_does_not_know_it_any_more_is_told_in_the_usual_way(server):
    assert server.ask(SUM, *VALUES) == BACK
    server.tell("DEALLOCATE ALL")  # as a pooler that hands out another connection
    assert server.ask(SUM, *VALUES) == BACK and server.ask(SUM, *VALUES) == BACK
    assert known(server) == 0


def test_a_connection_that_knows_it_of_somebody_else_is_told_in_the_usual_way(server):
    server.tell(f"PREPARE {SUM.name.decode()} AS SELECT 1")
    assert server.ask(SUM, *VALUES) == BACK


def test_tables_that_change_meanwhile_do_no_harm(server):
    server.tell("CREATE TABLE things (number bigint)")
    server.tell("INSERT INTO things VALUES (1)")
    every = Statement.of("SELECT * FROM things")
    assert server.ask(every) == [(1,)]
    server.tell("ALTER TABLE things ADD COLUMN text text")
    assert server.ask(every) == [(1, None)] == server.ask(every)[:1]


def test_an_error_is_the_one_that_it_would_be(server):
    divide = Statement.of("SELECT 1::bigint / %s::bigint")
    for query in (divide, divide.query):
        with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
            server.ask(query, 0)
    assert server.ask(divide, 1) == [(1,)]
    server.tell("CREATE TABLE things (number bigint)")
    server.tell("SET default_transaction_read_only = on")  # as a standby says it
    with pytest.raises(Away, match="read-only"):
        server.tell(Statement.of("INSERT INTO things VALUES (%s) RETURNING number"), 1)
