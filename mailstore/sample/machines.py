"""What machines send to the workshop: orders, newsletters, reports, a mailing list, bounces."""

from __future__ import annotations

import random
from collections.abc import Iterator

from cyrus_sync.mailstore.sample import attachments
from cyrus_sync.mailstore.sample.message import DOMAIN, PEOPLE, Letter, SampleMessage, build, message_id

_DAY = 86_400
_ARTICLES = (
    ("Glocke Messing", 8.90),
    ("Brake lever, pair", 24.00),
    ("Panier avant", 39.00),
    ("20″ rim, 36 holes", 18.50),
    ("Lenkerband schwarz", 12.40),
    ("Tube 47-406", 5.20),
    ("Dynamo à moyeu", 89.00),
    ("Kettenöl 100 ml", 6.80),
)
_NEWS = (
    "Winter tyres: why 2 bar is enough",
    "The quiet bottom bracket, part three",
    "Cargo bikes and the new parking rules",
    "Spokes: how tight is tight?",
    "What salt does to your chain",
    "Readers' bikes: a tandem from 1931",
)
_TOPICS = (
    "hub gear leaks oil",
    "source for 650B rims in small numbers",
    "brazing stainless to mild steel",
    "what to do with 300 old inner tubes",
    "dishing gauge, home made",
    "insurance for test rides",
)
_WORDS = (
    "the a wheel frame spoke rim axle bearing cup cone chain ring lever cable housing saddle post clamp bolt "
    "washer is was seems runs creaks holds breaks fits turns again now never always often with without after "
    "before between mine yours ours this that same other left right upper lower new old loose tight steel "
    "brass and but so because if"
)


def machine_mail(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    """About three hundred messages over four months."""
    yield from _orders(rng, start)
    yield from _newsletters(rng, start)
    yield from _reports(rng, start)
    yield from _mailing_list(rng, start)
    yield from _bounces(rng, start)
    yield from _drafts(start)


def _prose(rng: random.Random, sentences: int) -> str:
    words = _WORDS.split()
    said = []
    for _ in range(sentences):
        line = " ".join(rng.choice(words) for _ in range(rng.randint(5, 16)))
        said.append(line[0].upper() + line[1:] + rng.choice((".", ".", ".", "?", "!")))
    lines = []
    for position in range(0, len(said), 3):
        lines.append(" ".join(said[position : position + 3]))
    return "\n\n".join(lines) + "\n"


def _orders(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    for number in range(60):
        when = start + number * 2 * _DAY + rng.randrange(_DAY)
        chosen = rng.sample(_ARTICLES, rng.randint(1, 4))
        rows = [(name, count, price * count) for name, price in chosen for count in (rng.randint(1, 5),)]
        total = sum(row[2] for row in rows)
        plain = "".join(f"{count:3} × {name:<28} {sum_:9.2f}\n" for name, count, sum_ in rows)
        cells = "".join(
            f"<tr><td>{count}</td><td>{name}</td><td align=right>{sum_:.2f}</td></tr>\n"
            for name, count, sum_ in rows
        )
        letter = Letter(
            sender=f"Web shop <shop@{DOMAIN}>",
            recipients=["daisuke"],
            subject=f"Order {4100 + number} ({total:.2f} €)",
            text=f"New order {4100 + number}\n\n{plain}\nTotal {total:.2f} €\n",
            html=f"<html><body><h1>Order {4100 + number}</h1><table>\n{cells}</table></body></html>\n",
            when=when,
            extra=[("X-Shop-Order", str(4100 + number)), ("Auto-Submitted", "auto-generated")],
            attachments=[attachments.make("pdf", number)] if number % 5 == 0 else (),
        )
        flags = "\\Seen" if number < 50 else ""
        yield SampleMessage("daisuke", "Orders", build(letter), when + 1, f"{flags} $paid".strip())


def _newsletters(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    for number in range(40):
        when = start + number * 3 * _DAY + 21_600
        title = _NEWS[number % len(_NEWS)]
        paragraphs = [_prose(rng, 9) for _ in range(rng.randint(2, 12))]
        letter = Letter(
            sender="Speichenpost <redaktion@speichenpost.example>",
            recipients=["alice", "bruno"],
            subject=f"Speichenpost {number + 1}: {title}",
            text="\n".join(paragraphs),
            html="<html><body>" + "".join(f"<p>{text}</p>\n" for text in paragraphs) + "</body></html>\n",
            when=when,
            extra=[
                ("List-Id", "Speichenpost <speichenpost.example>"),
                ("List-Unsubscribe", "<mailto:redaktion@speichenpost.example?subject=unsubscribe>"),
            ],
            attachments=[attachments.make("png", number)] if number % 4 == 1 else (),
        )
        raw = build(letter)
        folder = "Newsletters" if number % 4 else "INBOX"
        yield SampleMessage("alice", folder, raw, when + 2, "\\Seen" if number % 3 else "")
        yield SampleMessage("bruno", "INBOX", raw, when + 2, "\\Deleted \\Seen" if number % 2 else "Junk")


def _reports(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    for number in range(70):
        when = start + number * _DAY + 10_800
        failed = rng.random() < 0.15
        text = f"backup of shop.{DOMAIN}\n"
        text += "".join(f"  /srv/{name}: {rng.randint(1, 900)} MB ok\n" for name in ("www", "db", "photos"))
        text += "RESULT: FAILED (disk 87 % full)\n" if failed else "RESULT: ok\n"
        letter = Letter(
            sender=f"root <root@shop.{DOMAIN}>",
            recipients=["zoe.novak"],
            subject=f"backup {'FAILED' if failed else 'ok'} day {number + 1}",
            text=text,
            when=when,
            charset="us-ascii",
        )
        flags = "\\Flagged" if failed else "\\Seen"
        yield SampleMessage("zoe.novak", "Archive/Reports", build(letter), when, flags)


def _mailing_list(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    members = [
        f"{name} <{name.split()[0].lower()}@frames.example>" for name in ("Ada Stone", "Kim Lund", "Ole Berg")
    ]
    for number, topic in enumerate(_TOPICS * 2):
        again = " (again)" if number >= len(_TOPICS) else ""
        references: list[str] = []
        when = start + number * 5 * _DAY
        for reply in range(rng.randint(3, 8)):
            when += rng.randrange(1_000, 50_000)
            letter = Letter(
                sender=rng.choice(members),
                recipients=["Framebuilders <list@frames.example>"],
                subject=f"{'Re: ' if reply else ''}[frames] {topic}{again}",
                text=_prose(rng, rng.randint(2, 25)),
                when=when,
                charset="us-ascii",
                references=tuple(references),
                extra=[("List-Id", "<list.frames.example>"), ("Precedence", "list")],
            )
            references.append(message_id(letter))
            yield SampleMessage("chiara", "Lists/frames", build(letter), when, "\\Seen" if number < 8 else "")


def _bounces(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    for number in range(8):
        when = start + number * 11 * _DAY
        who = rng.choice(tuple(PEOPLE))
        raw = (
            f"From: Mail Delivery System <mailer-daemon@{DOMAIN}>\r\nTo: <{who}@{DOMAIN}>\r\n"
            "Subject: Undelivered Mail Returned to Sender\r\n"
            f"Message-ID: <bounce{number}@{DOMAIN}>\r\nMIME-Version: 1.0\r\n"
            f'Content-Type: multipart/report; report-type=delivery-status; boundary="bounce{number}"\r\n\r\n'
            f"--bounce{number}\r\nContent-Type: text/plain\r\n\r\nNobody here has that name.\r\n\r\n"
            f"--bounce{number}\r\nContent-Type: message/delivery-status\r\n\r\n"
            f"Reporting-MTA: dns; mail.{DOMAIN}\r\n\r\n"
            f"Final-Recipient: rfc822; nobody{number}@kunde.example\r\n"
            "Action: failed\r\nStatus: 5.1.1\r\n\r\n"
            f"--bounce{number}--\r\n"
        )
        yield SampleMessage(who, "INBOX", raw.encode(), when, "\\Seen")


def _drafts(start: int) -> Iterator[SampleMessage]:
    letter = Letter(
        sender="alice",
        recipients=["bruno"],
        subject="Christmas party (not yet sent)",
        text="Dear Bruno,\n\nI was thinking of\n",
        when=start + 30 * _DAY,
    )
    yield SampleMessage("alice", "Entwürfe", build(letter), letter.when, "\\Draft \\Seen")
