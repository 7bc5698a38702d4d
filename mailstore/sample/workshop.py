"""All sample messages, as an iterator: conversations from ``threads.yaml`` and what machines send.

>>> len(list(messages())) > 300
True
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import yaml

from cyrus_sync.mailstore.sample import attachments
from cyrus_sync.mailstore.sample.machines import machine_mail
from cyrus_sync.mailstore.sample.message import PEOPLE, Letter, SampleMessage, build, message_id
from cyrus_sync.mailstore.sample.odd import odd_mail

USERS = tuple(PEOPLE)
START = 1_768_204_800
"""The morning of 12 January 2026, when the sample begins."""


def messages(seed: int = 1) -> Iterator[SampleMessage]:
    """Every message of the sample with its place, flags and internal date."""
    rng = random.Random(f"workshop{seed}")
    yield from _conversations(rng)
    yield from machine_mail(rng, START)
    yield from odd_mail(rng, START)


def _conversations(rng: random.Random) -> Iterator[SampleMessage]:
    threads = yaml.safe_load(files(__package__).joinpath("threads.yaml").read_text(encoding="utf-8"))
    for number, thread in enumerate(threads):
        yield from _conversation(rng, number, thread)


def _conversation(rng: random.Random, number: int, thread: dict[str, Any]) -> Iterator[SampleMessage]:
    references: list[str] = []
    when = START + number * 86_400 + rng.randrange(40_000)
    last = len(thread["messages"]) - 1
    for position, said in enumerate(thread["messages"]):
        when += rng.randrange(300, 30_000)
        letter = Letter(
            sender=said["from"],
            recipients=said["to"],
            subject=thread["subject"] if position == 0 else f"Re: {thread['subject']}",
            text=said["text"],
            when=when,
            charset=thread["charset"],
            references=tuple(references),
            attachments=[attachments.make(kind, number) for kind in said.get("attach", ())],
        )
        references.append(message_id(letter))
        raw = build(letter)
        for userid in said["to"]:
            if userid in PEOPLE:
                flags = _flags(rng, answered=position < last)
                yield SampleMessage(userid, thread["folder"], raw, when + rng.randrange(5), flags)
        if said["from"] in PEOPLE:
            yield SampleMessage(said["from"], "Sent", raw, when, "\\Seen")


def _flags(rng: random.Random, *, answered: bool) -> str:
    flags = []
    if answered and rng.random() < 0.6:
        flags.append("\\Answered")
    if rng.random() < 0.15:
        flags.append("\\Flagged")
    if rng.random() < 0.8:
        flags.append("\\Seen")
    if rng.random() < 0.3:
        flags.append(rng.choice(("$Forwarded", "$Label1", "NonJunk", "to-do", "customer")))
    return " ".join(flags)
