"""Messages whose parts are easily misread. `CORPUS` has them by what is peculiar about each."""

from __future__ import annotations


def message(text: str) -> bytes:
    """Text with the line ends of mail."""
    return text.encode("latin-1").replace(b"\n", b"\r\n")


PLAIN = message("""\
Date: Mon, 2 Nov 2026 09:30:00 +0100
From: "Doe, Jane" <jane@example.org>
To: bob@example.net (Bob), friends: carl@example.org, "D \\"x\\"" <d@example.org>;, eve
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus
 dem Norden
Message-ID: <1@example.org>
In-Reply-To: <0@example.org>
Reply-To: list@example.org

Hello,
plain text.
""")

CORPUS = {
    "groups, comments and folded fields": PLAIN,
    "a file and a message in a message": message("""\
From: jane@example.org
To: bob@example.net
Subject: with a file
MIME-Version: 1.0
Date: Tue, 3 Nov 2026 10:00:00 +0000
Content-Language: en, de
Content-Type: multipart/mixed; boundary="b1 b"

preamble
--b1 b
Content-Type: text/plain; charset=utf-8; format=flowed
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
from here
--b1 b
Content-Type: application/pdf; name="a b.pdf"
Content-Disposition: attachment; filename="a b.pdf"; size=3
Content-Transfer-Encoding: base64
Content-ID: <c1@example.org>
Content-Description: a small file
Content-MD5: abc

JVBE
--b1 b
Content-Type: message/rfc822

""")
    + PLAIN
    + message("--b1 b--\nepilogue\n"),
    "parts in parts": message("""\
From: jane@example.org
Subject: nested
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=outer

--outer

no header
--outer
Content-Type: multipart/related; boundary=inner;
 type="text/html"

--inner
Content-Type: TEXT/html
Content-Location: http://example.org/

<b>deep</b>
--inner
Content-Type: image/png
Content-Disposition: inline

\x89PNG
--inner--

--outer--
"""),
    "a digest, whose parts are messages": message("""\
From: list@example.org
Subject: digest
MIME-Version: 1.0
Content-Type: multipart/digest; boundary=d

--d

From: a@example.org
Subject: one

first
--d

From: b@example.org
Subject: two

second
--d--
"""),
    "no content": message("Subject: nothing else\n\n"),
    "no type and nobody": message("""\
From: jane
To: <>
Cc: undisclosed-recipients:;
Content-Type: garbage

body
"""),
    "a multipart without parts": message("""\
From: jane@example.org
Content-Type: multipart/mixed; boundary=never
Subject: no parts

body
"""),
    "a part that is not closed": message("""\
From: jane@example.org
Content-Type: multipart/mixed; boundary=open
Subject: open end

--open

not closed"""),
    "a field twice, and in lower case": message("""\
From: Jane Doe <jane@example.org>
X-Long: a
\tb
 c
X-Long: again
subject: lower case



"""),
    "routes, quotes and no date": message("""\
From: jane@example.org, <@route,@two:kim@example.org>
To: "a b"@example.org
Date: nonsense
Subject: "quoted" \\ back
Message-ID: <x@y> (comment)

b
"""),
}
