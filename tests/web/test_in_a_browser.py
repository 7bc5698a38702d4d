"""The page in a real Chromium, of a real master whose sync_client runs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.absent import skip_without
from tests.common.wire.kit import issue
from tests.deadlines import scaled, until
from tests.ports import free_port
from tests.sync_client.real import BIN, ENVIRONMENT, Pair, Replica, paired, serving_replica
from tests.web.browser import Page, browser, installed

EVIL = "<img src=x onerror=alert(1)> </td><script>alert(2)</script> \u202efdp"


@pytest.fixture(scope="session")
def real_chromium() -> None:
    """Skip where there is none; in CI, fail."""
    skip_without("real Chromium", "" if installed() else "it is not installed")


class Shown(NamedTuple):
    page: Page
    pair: Pair
    url: str
    web: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, real_chromium: None) -> Iterator[Shown]:
    root = tmp_path_factory.mktemp("shown")
    port = free_port()
    replica: Replica
    with contextlib.ExitStack() as stack:
        replica = stack.enter_context(serving_replica(root))
        pair = stack.enter_context(paired(root, replica))
        certificate = issue(root, "master", days=7)
        pair.master.add(f"tls_server_cert: {certificate.cert}", f"tls_server_key: {certificate.key}")
        pair.master.create("alice")
        pair.rolling("-d", "1")
        set_aside(pair, EVIL)
        log = stack.enter_context((root / "web.log").open("wb"))
        web = subprocess.Popen(
            [BIN / "cyrus-sync", "-C", pair.master.conf, "web", "-e", "--listen", str(port)],
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
        )
        stack.callback(end, web)
        url = f"http://127.0.0.1:{port}/"
        until(lambda: answers(url, web), f"the page is there: {root}/web.log", 60)
        page = stack.enter_context(browser(root))
        yield Shown(page, pair, url, web)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(scaled(20))


def answers(url: str, web: subprocess.Popen[bytes]) -> bool:
    assert web.poll() is None
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=scaled(5)) as answer:  # noqa: S310
        return int(answer.status) == 200
    return False


def set_aside(pair: Pair, *reasons: str) -> None:
    import yaml

    entries = {f"user{number}": {"reason": reason} for number, reason in enumerate(reasons)}
    path = pair.master.directory() / "quarantine.yaml"
    fresh = path.with_suffix(".fresh")
    fresh.write_text(yaml.safe_dump({"set_aside": entries}, allow_unicode=True))
    fresh.rename(path)


CONTRAST = """(() => {
  const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) { return c; }
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg, caption, meter, noscript")) { continue; }
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) { bad.push(e.tagName + " " + e.className + " " + ratio.toFixed(2)); }
  }
  return bad;
})()"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_is_legible_light_and_dark_wide_and_narrow(shown: Shown, scheme: str, width: int) -> None:
    page = shown.page
    page.look(width, 900, scheme)
    page.complaints.clear()
    page.open(shown.url)
    assert page.value("document.title").endswith(" – master.example")
    assert page.value(CONTRAST) == []
    assert page.value("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    dark = page.value("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 29)"
    assert dark == (scheme == "dark")
    assert page.value("document.querySelectorAll('svg.plot').length") == 1
    assert page.complaints == [], "the policy is kept, and nothing fails"


@pytest.mark.timeout(600)
def test_what_others_wrote_is_text_and_nothing_else(shown: Shown) -> None:
    page = shown.page
    page.open(shown.url)
    cell = page.value("document.querySelector('#asides td:nth-of-type(2)').textContent")
    assert cell == EVIL.replace("\u202e", "\\u202e")
    assert page.value("document.querySelectorAll('main script, main img, main [onerror]').length") == 0


@pytest.mark.timeout(600)
def test_it_follows_what_changes_without_being_loaded_anew(shown: Shown) -> None:
    page = shown.page
    page.open(shown.url)
    page.value("window.mark = 1")
    set_aside(shown.pair, EVIL, "the second one")
    seen = "document.querySelector('#asides').textContent.includes('the second one')"
    until(lambda: page.value(seen), "the page shows it", 60, every=0.5)
    assert (
        page.value("window.mark") == 1 and page.value("document.querySelector('#live').textContent") == "live"
    )
    changed = "document.querySelector('#changes').textContent"
    assert "(default): user1 is set aside: the second one" in page.value(changed)
    set_aside(shown.pair, EVIL)
    until(lambda: not page.value(seen), "and that it is over", 60, every=0.5)


@pytest.mark.timeout(600)
def test_a_selection_is_left_alone(shown: Shown) -> None:
    page = shown.page
    page.open(shown.url)
    page.value("document.getSelection().selectAllChildren(document.querySelector('pre'))")
    marked = page.value("String(document.getSelection())")
    time_of = "document.querySelector('.when time').dateTime"
    before = page.value(time_of)
    with urllib.request.urlopen(shown.url, timeout=scaled(10)) as answer:  # noqa: S310 (our own address)
        until(lambda: answers(shown.url, shown.web), "it answers")
        assert answer.status == 200
    page.value("document.dispatchEvent(new Event('visibilitychange'))")
    assert marked and page.value("String(document.getSelection())") == marked
    assert page.value(time_of) == before


@pytest.mark.timeout(600)
def test_without_javascript_all_of_it_is_there_and_the_browser_comes_back(shown: Shown) -> None:
    page = shown.page
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(shown.url)
        for part in ("verdict", "channels", "asides", "store", "changes"):
            assert page.value(f"document.getElementById('{part}').textContent.length > 20"), part
        assert page.value("document.querySelector('#live').textContent") == ""
        assert page.value("document.querySelector('meta[http-equiv=refresh]').content") == "30"
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.timeout(600)
def test_what_is_wrong_says_what_to_type(shown: Shown) -> None:
    page = shown.page
    page.open(shown.url)
    said = page.value("document.querySelector('#verdict').innerText")
    assert "Something wants attention" in said
    assert "master.pem ends in 6d" in said and "systemctl reload sync_server" in said
    assert "1 set aside" in said and "sync_client -v -u user0" in said


@pytest.mark.timeout(600)
def test_when_the_server_is_gone_the_page_says_so(shown: Shown) -> None:
    page = shown.page
    page.open(shown.url)
    end(shown.web)
    live = "document.querySelector('#live').textContent"
    until(lambda: page.value(live).startswith("no answer for "), "the page says so", 60, every=0.5)
    assert page.value("document.body.classList.contains('stale')")
    history = Path(shown.pair.master.directory() / "web.json").read_text()
    assert '"lags": {"": {' in history, "what was seen is kept"
