"""The files that sample messages carry: small, valid, and the same every time."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib

from cyrus_sync.mailstore.sample.message import Attachment, Letter, build


def make(kind: str, seed: int) -> Attachment:
    """One of `KINDS`."""
    return KINDS[kind](random.Random(f"{kind}{seed}"), seed)


def csv(rng: random.Random, seed: int) -> Attachment:
    rows = ["frame,head angle,trail mm,load kg"]
    rows += [
        f"{n},{70 + rng.random():.2f},{rng.randint(48, 66)},{rng.choice((0, 20, 40))}" for n in range(1, 12)
    ]
    return Attachment("text/csv", f"geometry-{seed}.csv", "\n".join(rows).encode())


def png(rng: random.Random, seed: int) -> Attachment:
    """A picture of coloured stripes."""
    width, height = 96, 64
    stripes = [bytes(rng.randrange(256) for _ in range(3)) * width for _ in range(8)]
    raw = b"".join(b"\0" + stripes[y // 8] for y in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return Attachment("image/png", f"frame-{seed}.png", data)


def pdf(rng: random.Random, seed: int) -> Attachment:
    """One page with one line of text."""
    text = f"Order confirmation {2000 + seed}: {rng.randint(10, 60)} rims, 20 inch"
    stream = f"BT /F1 14 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    data = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    tail = b"xref\n0 5\n0000000000 65535 f \n%strailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return Attachment("application/pdf", f"Ordine {2000 + seed}.pdf", data + tail % (table, len(data)))


def ics(rng: random.Random, seed: int) -> Attachment:
    day = rng.randint(10, 27)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//workshop.example//wall calendar//EN",
        "METHOD:REQUEST",
        "BEGIN:VEVENT",
        f"UID:{seed}-{day}@workshop.example",
        "DTSTAMP:20260112T080000Z",
        f"DTSTART:202602{day:02d}T130000Z",
        f"DTEND:202602{day:02d}T170000Z",
        "SUMMARY:Repair café",
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ]
    return Attachment("text/calendar", "invite.ics", "\n".join(lines).encode())


def patch(rng: random.Random, seed: int) -> Attachment:
    line = rng.randint(20, 200)
    text = (
        f"--- shop/prices.py\n+++ shop/prices.py\n@@ -{line},3 +{line},3 @@\n"
        " def gross(net, rate):\n-    return round(net, 2)\n+    return round(net * (1 + rate), 2)\n"
    )
    return Attachment("text/x-patch", "rounding.patch", text.encode())


def zip_file(rng: random.Random, seed: int) -> Attachment:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            info = zipfile.ZipInfo(f"catalogue/{seed}-{number}.txt", (2026, 1, 12, 8, 0, 0))
            archive.writestr(info, "\n".join(str(rng.random()) for _ in range(200)))
    return Attachment("application/zip", f"catalogue-{seed}.zip", out.getvalue())


def noise(rng: random.Random, seed: int) -> Attachment:
    """A recording that no compression makes smaller."""
    return Attachment("audio/x-wav", f"creaking-{seed}.wav", rng.randbytes(rng.randint(200_000, 900_000)))


def forward(rng: random.Random, seed: int) -> Attachment:
    inner = Letter(
        sender="Hausmeisterei <hausmeister@rathaus.example>",
        recipients=["zoe.novak"],
        subject="Re: Steckdosen im großen Saal",
        text="Nur die linke Wand, und nicht mehr als zwei Lötkolben zugleich.\nGruß, die Hausmeisterei\n",
        when=1_768_200_000 + seed,
        charset="iso-8859-1",
    )
    return Attachment("message/rfc822", "Steckdosen.eml", build(inner))


KINDS = {
    "csv": csv,
    "png": png,
    "pdf": pdf,
    "ics": ics,
    "patch": patch,
    "zip": zip_file,
    "noise": noise,
    "forward": forward,
}
