"""A script on which a real server hangs up is left out and told of; all else goes over."""

from __future__ import annotations

import pytest

from cyrus_sync.common.names import Owner
from tests.deadlines import until

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import message
from .ours import Ours

JANUARY = 1704103200
BAD = {
    "unknown extension": b'require ["nonexistent"]; keep;\n',
    "missing require": b'fileinto "Work";\n',
    "two gigabytes": b"if size :over 2G { discard; }\n",
    "else if": b"if true { keep; } else if true { stop; }\n",
    "unknown command": b"foo;\n",
    "no address": b'redirect "a@b@c";\n',
    "bad expression": b'require ["regex"]; if header :regex "subject" "(" { discard; }\n',
}


def fill(ours: Ours, user: str, scripts: dict[str, bytes]) -> None:
    inbox = f"user.{user}"
    with ours.store.write(Owner("user", user)) as box:
        box.create(inbox)
        box.create(f"{inbox}.Work")
        box.append(inbox, [(message("one"), JANUARY, "\\Seen")])
        box.subscribe(f"{inbox}.Work")
        box.put_script("good", b"keep;\n")
        for name, content in scripts.items():
            box.put_script(name, content)
        box.put_script("last", b"stop;\n")
        box.activate_script("good")


def but_scripts(cyrus: Cyrus | Ours, user: str) -> dict[str, object]:
    state = state_of(cyrus.csync, user)
    del state["mailboxes"][f"user.{user}.#sieve"]
    return state


@pytest.mark.parametrize("why", BAD)
def test_the_one_script_is_left_out_and_named(replica: Cyrus, user: str, why: str) -> None:
    with Ours.installed("scripts") as ours:
        fill(ours, user, {"wrong one": BAD[why]})
        run = ours.sync_client("-u", user, to=replica.csync)
        assert run.status == 1 and "the Sieve script wrong one is left out" in run.err, run.describe()
        assert scripts_of(replica.csync, user) == {"good": (b"keep;\n", True), "last": (b"stop;\n", False)}
        assert differences(but_scripts(ours, user), but_scripts(replica, user)) == []


def test_it_is_told_of_at_every_run_and_tried_again_when_it_is_replaced(replica: Cyrus, user: str) -> None:
    with Ours.installed("scripts") as ours:
        fill(ours, user, {"one": BAD["else if"], "two": BAD["unknown command"]})
        ours.sync_client("-u", user, to=replica.csync)
        for _ in range(2):
            again = ours.sync_client("-u", user, to=replica.csync)
            assert again.status == 1 and again.err.count("is left out") == 2, again.describe()
            assert "sync failed" not in again.err, "nothing breaks any more"
        with ours.store.write(Owner("user", user)) as box:
            box.put_script("one", b"discard;\n")
            box.delete_script("two")
        ours.sync_client("-u", user, to=replica.csync).check()
        assert scripts_of(replica.csync, user)["one"] == (b"discard;\n", False)
        assert ours.sync_client("-u", user, to=replica.csync).check().err == ""


def test_a_rolling_client_goes_on(replica: Cyrus, user: str) -> None:
    with Ours.installed("scripts") as ours:
        fill(ours, user, {"wrong": BAD["unknown extension"]})
        rolling = ours.roll(to=replica.csync)
        until(lambda: "wrong is left out" in rolling.text(), "it is told of", 60)
        with ours.store.write(Owner("user", user)) as box:
            box.append(f"user.{user}.Work", [(message("later"), JANUARY, "")])
        until(
            lambda: differences(but_scripts(ours, user), but_scripts(replica, user)) == [],
            "all but the script is there",
            60,
        )
        assert set(scripts_of(replica.csync, user)) == {"good", "last"}
        assert not (ours.root / "conf" / "sync" / "quarantine.yaml").exists()
