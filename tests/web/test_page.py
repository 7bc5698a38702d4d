"""The page without a browser: what it shows, to whom, and what it never does."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.template import Tag, flattenString, tags

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.metrics.pages import limited
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.mailstore.scrub_state import Scrub
from cyrus_sync.multisite.health import look
from cyrus_sync.web.facts import Aside, Certificate, Disk, Facts, Observer
from cyrus_sync.web.figures import add_scrub
from cyrus_sync.web.login import Doorkeeper
from cyrus_sync.web.memory import SLOT, SLOTS, Memory
from cyrus_sync.web.serving import Root
from cyrus_sync.web.settings import Places
from cyrus_sync.web.troubles import troubles
from cyrus_sync.web.view import page
from tests.common.wire.kit import issue
from tests.multisite.world import family_of

NOW = 1_800_000_000.0
EVIL = "\"><script>alert(1)</script><img src=x onerror='x()'>\u202e"


def channel(name: str = "north", **said: Any) -> dict[str, Any]:
    """One that is well, but for what is said."""
    well = {
        "channel": name, "running": True, "exit_status": 0, "state": "waiting for changes",
        "server": "r.example", "queue": 0, "under_way": 0, "set_aside": 0, "withheld_messages": 0,
        "damaged_owners": 0, "left_out": [], "oldest_change_seconds": None, "last_success_seconds": 3,
        "messages_per_minute": 1.5, "connected_since": NOW - 60, "last_error": "",
    }  # fmt: skip
    return {**well, **said}


def html(facts: Facts, memory: Memory | None = None) -> str:
    drawn = page(facts, memory or Memory(Path("/nowhere")))
    found: list[bytes] = []
    flattenString(None, drawn).addCallback(found.append)
    return found[0].decode()


class Elements(HTMLParser):
    """All elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def everything(text: str) -> Facts:
    """Facts in which each text that others could have written is `text`."""
    aside = Aside(text, text, text, int(NOW), 3, None, (text,), Path(f"/x/{text}"))
    scrub = Scrub(begun=NOW, owners=1, of=2, running=True)
    return Facts(
        NOW,
        text,
        [
            channel(
                text, running=False, state=text, server=text, last_error=text, left_out=[text], set_aside=1
            )
        ],
        [aside],
        packets_trouble=text,
        disks=[Disk(text, Path(f"/{text}"), 1, 100)],
        certificates=[Certificate(text, Path(f"/{text}"), int(NOW))],
        scrub=scrub,
        failed=[text],
    )


def remembering(text: str) -> Memory:
    """One that has just seen all that come to be."""
    memory = Memory(Path("/nowhere"))
    memory.note(Facts(NOW - 10, "x"))
    memory.note(everything(text))
    return memory


def test_whatever_others_wrote_makes_no_element_and_no_attribute() -> None:
    plain, evil = (Elements(html(everything(text), remembering(text))).found for text in ("plain", EVIL))
    assert [tag for tag, _ in plain] == [tag for tag, _ in evil]
    assert [sorted(attributes) for _, attributes in plain] == [sorted(attributes) for _, attributes in evil]
    assert "\u202e" not in html(everything(EVIL), remembering(EVIL))


def test_there_is_no_style_and_no_script_in_it() -> None:
    for tag, attributes in Elements(html(everything("x"))).found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), (tag, attributes)
        assert tag != "style" and (tag != "script" or attributes.get("src") == "script.js")
        for name in ("href", "src"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), "nothing comes from elsewhere"


@pytest.mark.parametrize(
    ("facts", "typed"),
    [
        ({"channels": [channel(running=False)]}, "systemctl start sync_client@north"),
        ({"channels": [channel("", running=False)]}, "systemctl start sync_client"),
        ({"channels": [channel("", running=False)], "of_cyrus": True}, "systemctl start sync_client-cyrus"),
        ({"channels": [channel(state="waiting to reconnect")]}, "systemctl reload sync_client@north"),
        ({"channels": [channel(oldest_change_seconds=700)]}, "journalctl -u sync_client@north -n 50"),
        ({"channels": [channel(withheld_messages=2)]}, "runuser -u cyrus -- mailstore repair --from-peer"),
        ({"channels": [channel(damaged_owners=2)]}, "runuser -u cyrus -- mailstore repair --from-peer"),
        ({"disks": [Disk("default", Path("/m"), 5, 100)]}, "runuser -u cyrus -- mailstore expire"),
        (
            {"certificates": [Certificate("tls_server_cert", Path("/c"), int(NOW))]},
            "systemctl reload sync_server",
        ),
        ({"last_scrub": Scrub(ended=NOW, problems=2, healed=1)}, "runuser -u cyrus -- mailstore verify"),
        ({"packets_trouble": "damaged"}, "multitool describe"),
    ],
)
def test_each_trouble_says_what_to_type(facts: dict[str, Any], typed: str) -> None:
    (one,) = troubles(Facts(NOW, "mail.example", **facts))
    assert typed in one.commands
    assert typed in html(Facts(NOW, "mail.example", **facts)).replace("&#39;", "'")


def test_a_name_in_a_command_is_one_word_of_it() -> None:
    who = "x; rm -rf / #'"
    aside = Aside("north", who, "why", 0, 1, None, (), Path("/q"))
    (one,) = troubles(Facts(NOW, "m", [channel(set_aside=1)], [aside]))
    assert one.commands == ("runuser -u cyrus -- sync_client -n north -v -u 'x; rm -rf / #'\\'''",)


def test_where_all_is_well_it_says_so() -> None:
    assert troubles(Facts(NOW, "m", [channel()])) == []
    text = html(Facts(NOW, "m", [channel()]))
    assert "All is well" in text and "icon-ok.svg" in text and "Nobody." in text


# -- what it looks at, and remembers


def test_it_looks_at_everything_and_a_part_that_fails_keeps_nothing_else_away(tmp_path: Path) -> None:
    boston, _rome = family_of(tmp_path, "boston", "rome")
    sync = boston.directory / "conf/sync"
    sync.mkdir(parents=True, exist_ok=True)
    (sync / "status.json").write_text(json.dumps({"state": ["no", "text"], "last_success": "yesterday"}))
    facts = Observer(boston.config, lambda: NOW).look()
    assert facts.packets is not None and [one.name for one in facts.packets.siblings] == ["rome"]
    assert [disk.name for disk in facts.disks] == ["(configdirectory)"], "there is no partition yet"
    assert len(facts.failed) == 1 and "TypeError" in facts.failed[0]
    assert "could not be looked at" in html(facts)
    (sync / "status.json").write_text(json.dumps({"state": ["no", "text"], "under_way": "x", "updated": 1}))
    facts = Observer(boston.config, lambda: NOW).look()
    assert facts.failed == [] and html(facts)


def test_packets_are_not_looked_into_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, _rome = family_of(tmp_path, "boston", "rome")
    now, looks = [NOW], []
    monkeypatch.setattr("cyrus_sync.web.facts.look", lambda *_: looks.append(1) or look(*_))
    observer = Observer(boston.config, lambda: now[0])
    for _ in range(20):
        facts = observer.look()
        assert facts.packets is not None and facts.failed == []
        now[0] += 5
    assert len(looks) == 2


def test_what_the_store_is_for_is_shown_and_its_change_told(tmp_path: Path) -> None:
    (boston,) = family_of(tmp_path, "boston")
    directory = boston.directory / "conf"
    memory = Memory(tmp_path / "web.json")
    memory.note(Observer(boston.config, lambda: NOW).look())
    (directory / "role.json").write_text(json.dumps({"role": "replica", "since": NOW, "by": "demote"}))
    facts = Observer(boston.config, lambda: NOW).look()
    memory.note(facts)
    assert "This store is replica since 2027-01-15T08:00:00Z (demote)." in html(facts)
    assert [one.text for one in memory.changes] == ["this store's role is replica now"]


def test_a_day_is_remembered_and_no_more(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "sync/web.json")
    for number in range(SLOTS + 50):
        memory.note(Facts(NOW + number * SLOT, "m", [channel(oldest_change_seconds=number)]))
    memory.save()
    again = Memory(memory.path)
    again.load()
    lags = again.lags("north", NOW + (SLOTS + 49) * SLOT)
    assert len(lags) == SLOTS and lags[-1] == SLOTS + 49 and lags[0] == 50
    assert memory.path.stat().st_size < 20_000
    later = again.lags("north", NOW + (SLOTS + 59) * SLOT)
    assert list(later[-10:]) == [None] * 10, "nobody looked"
    assert "at most 337s" not in html(Facts(NOW, "m", [channel()]), again)


@pytest.mark.parametrize("damage", ["", "[]", '{"lags": 1}', '{"lags": {}, "changes": [[1]], "seen": {}}'])
def test_a_memory_that_is_damaged_is_begun_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "web.json").write_text(damage)
    memory = Memory(tmp_path / "web.json")
    memory.load()
    assert memory.changes == []
    memory.note(Facts(NOW, "m", [channel()]))
    memory.save()


def test_what_changes_is_told_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "web.json")
    aside = Aside("north", "alice", "Checksum Failure", 0, 1, None, (), Path("/q"))
    for facts in (
        Facts(NOW, "m", [channel()]),
        Facts(NOW + 1, "m", [channel(connected_since=None, last_error="refused")]),
        Facts(NOW + 2, "m", [channel(connected_since=None, last_error="refused")]),
        Facts(NOW + 3, "m", [channel()], [aside]),
        Facts(NOW + 4, "m", [channel(running=False)]),
        Facts(NOW + 5, "m", [channel(running=False)], last_scrub=Scrub(ended=NOW, problems=1)),
    ):
        memory.note(facts)
    assert [one.text for one in reversed(memory.changes)] == [
        "north: not connected: refused",
        "north: connected",
        "north: alice is set aside: Checksum Failure",
        "north: sync_client runs no more",
        "north: alice is set aside no more",
        "a scrub of the store has ended: 1 problems",
    ]


def test_the_scrub_is_told_to_prometheus() -> None:
    sheet = Sheet("cyrus-sync-web")
    add_scrub(sheet, Facts(NOW, "m", last_scrub=Scrub(ended=NOW, problems=3, healed=2, failed=1)))
    text = plain_text(sheet).decode()
    assert (
        'cyrus_sync_scrub_problems{kind="found"} 3.0' in text and "cyrus_sync_scrub_failed_owners 1.0" in text
    )


# -- to whom


class Threads:
    def run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return maybeDeferred(function, *arguments)


class Nothing:
    def told(self, accept: str) -> Deferred[tuple[bytes, str]]:
        return succeed((b"figures", "text/plain"))


def ask(root: Root, *lines: str, path: str = "/", clock: MemoryReactorClock | None = None) -> str:
    """What a request is answered."""
    del clock
    protocol = limited(root).buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived("".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", *lines, "")).encode())
    return transport.value().decode()


def drawn() -> Deferred[Tag]:
    return succeed(tags.html(tags.p("the page")))


def test_every_answer_keeps_browsers_from_what_is_not_meant() -> None:
    root = Root(drawn, Nothing(), names=("localhost",))
    for path in ("/", "/style.css", "/script.js", "/icon-ok.svg", "/metrics", "/passwd", "/a/b"):
        answer = ask(root, "Host: localhost", path=path)
        assert (
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'"
            in answer.lower()
        )
        assert "x-content-type-options: nosniff" in answer.lower()
        assert answer.startswith("HTTP/1.1 404") == (path in ("/passwd", "/a/b"))
    assert "the page" in ask(root, "Host: LOCALHOST:9780")
    assert ask(root, "Host: localhost", path="/").count("unsafe") == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9780", "", "localhost.evil.example", "[::2]:9780"]
)
def test_on_the_loopback_interface_it_goes_by_its_own_names_alone(host: str) -> None:
    answer = ask(Root(drawn, Nothing(), names=("localhost", "127.0.0.1", "[::1]")), f"Host: {host}")
    assert answer.startswith("HTTP/1.1 421") and "the page" not in answer


def test_it_only_shows() -> None:
    protocol = limited(Root(drawn, Nothing())).buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 405")


class Door:
    """A doorkeeper, with a clock and a note of whom it has asked for."""

    def __init__(self, pause: float = 0) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, str]] = []
        reactor: Any = self.clock
        self.keeper = Doorkeeper(reactor, Threads(), frozenset({"repl"}), self._check, pause)

    def _check(self, user: str, password: str) -> bool:
        self.asked.append((user, password))
        return (user, password) in (("repl", "a long: secret"), ("alice", "hers"))

    def admits(self, header: str | None) -> list[bool]:
        """The answer, if there is one yet."""
        found: list[bool] = []
        Deferred.fromCoroutine(self.keeper.admits(header, "192.0.2.7:1")).addCallback(found.append)
        self.clock.advance(0)
        return found


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_an_administrator_gets_in_and_is_remembered_for_some_minutes() -> None:
    door = Door()
    assert door.admits(basic("repl", "a long: secret")) == [True]
    assert door.admits(basic("repl", "a long: secret")) == [True] and len(door.asked) == 1
    door.clock.advance(301)
    assert door.admits(basic("repl", "a long: secret")) == [True] and len(door.asked) == 2


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic", "Basic !!", "Bearer x", basic("repl", "wrong"), basic("alice", "hers"),
     "Basic " + base64.b64encode(b"repl").decode(), "Basic " + base64.b64encode(b"\xff:\xff").decode()],
)  # fmt: skip
def test_nobody_else_does(header: str | None) -> None:
    assert Door().admits(header) == [False]


def test_guessing_is_slow() -> None:
    door = Door(pause=3)
    for number in range(100):
        door.admits(basic("repl", f"guess {number}"))
    door.clock.pump([1.0] * 60)
    assert len(door.asked) < 20


def test_what_is_behind_the_door_is_all_of_it() -> None:
    root = Root(drawn, Nothing(), door=Door().keeper)
    for path in ("/", "/style.css", "/metrics"):
        transport = StringTransport(peerAddress=_address())
        protocol = limited(root).buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert transport.value().startswith(b"HTTP/1.1 401")
        assert b"www-authenticate: basic" in transport.value().lower()
        transport.clear()
        said = f"Authorization: {basic('repl', 'a long: secret')}"
        protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: x\r\n{said}\r\n\r\n".encode())
        assert transport.value().startswith(b"HTTP/1.1 200")


def _address() -> Any:
    from twisted.internet.address import IPv4Address

    return IPv4Address("TCP", "192.0.2.7", 40112)


# -- where


def places(tmp_path: Path, *lines: str, words: list[str] | None = None) -> Places:
    conf = tmp_path / "imapd.conf"
    conf.write_text("\n".join([f"configdirectory: {tmp_path}", *lines]) + "\n")
    return Places.from_config(Config.load(conf, "web"), words)


@pytest.mark.covers("imapd.conf", "sync_web_listen")
def test_it_is_shown_to_this_host_unless_more_is_said(tmp_path: Path) -> None:
    assert [str(one) for one in places(tmp_path).local] == ["127.0.0.1:9780"]
    found = places(tmp_path, "sync_web_listen: 9000 /run/w.sock [::1]:1 localhost")
    assert [str(one) for one in found.local] == ["127.0.0.1:9000", "/run/w.sock", "[::1]:1", "localhost:9780"]
    assert not found.open
    assert [str(one) for one in places(tmp_path, words=["9001"]).local] == ["127.0.0.1:9001"]


def test_to_other_hosts_it_is_shown_under_tls_alone(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"imapd\.conf:2: sync_web_listen: \*:9780 can be reached .* takes TLS"
    ):
        places(tmp_path, "sync_web_listen: *")
    issued = issue(tmp_path, "web")
    found = places(
        tmp_path,
        "sync_web_listen: * 9780",
        f"tls_server_cert: {issued.cert}",
        f"tls_server_key: {issued.key}",
    )
    assert [str(one) for one in found.open] == ["*:9780"] and len(found.local) == 1
