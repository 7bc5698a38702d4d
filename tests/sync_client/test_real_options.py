"""Every option of sync_client against a real server: what it does, and the exit status."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.locks import lock_name
from tests.common.wire.kit import issue
from tests.deadlines import scaled, until
from tests.sync_client.real import BIN, ENVIRONMENT, Client, Pair


def commands(client: Client) -> list[str]:
    """The csync commands of a protocol trace."""
    return re.findall(r"^>\d+>((?:GET|APPLY) \S+|\S+)", client.err.decode("utf-8", "replace"), re.MULTILINE)


def folder(pair: Pair, user: str, name: str) -> None:
    with pair.master.store.write(Owner("user", user)) as writer:
        writer.create(f"user.{user}.{name}")


@pytest.mark.covers("sync_client: options", "-u")
@pytest.mark.covers("Exit statuses", "sync_client 0")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "54", "67")
def test_u_replicates_the_users_named_and_no_others(pair):
    pair.master.create("alice", "bob", "carol")
    client = pair.run("-v", "-u", "alice", "bob")
    assert client.process.returncode == 0
    # Users go side by side, so either may be told first.
    told = [line for line in client.out.decode().splitlines() if line.startswith("USER")]
    assert sorted(told) == ["USER alice", "USER bob"]
    assert pair.replica.has("alice") and pair.replica.has("bob") and not pair.replica.has("carol")


@pytest.mark.covers("sync_client: options", "-u")
@pytest.mark.covers("Exit statuses", "sync_client 1")
def test_u_reports_who_fails_and_goes_on(pair, tmp_path):
    pair.replica.create("bad")
    pair.replica.deliver("bad", "born on the wrong side")
    pair.master.create("alice", "bad", "bob")
    names = tmp_path / "names"
    names.write_text("# everybody\nalice\n\nbad\nbob\n")
    client = pair.run("-u", "-f", str(names))
    assert client.process.returncode == 1
    assert b"user=bad" in client.err and b"IMAP_MAILBOX_MOVED" in client.err
    assert pair.replica.has("alice") and pair.replica.has("bob")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-u", "nobody"], "no such user: nobody"),
        (["-s", "nobody"], "no such user: nobody"),
        (["-m", "user/nobody/Work"], "no such mailbox: user/nobody/Work"),
        (["-A", "x"], "no users here, and no shared mailboxes, whose name begins with 'x'"),
    ],
)
def test_who_or_what_is_nowhere_is_named_and_the_rest_is_done(pair, options, said):
    pair.master.create("alice")
    client = pair.run(*options, *(["alice"] if options[0] == "-u" else []))
    assert client.process.returncode == 1
    assert client.err.decode() == said + "\n"
    assert pair.replica.has("alice") is (options[0] == "-u")


def test_an_empty_store_has_no_users_and_a_real_cyrus_is_recognised(pair):
    client = pair.run("-A")
    assert client.process.returncode == 1
    assert f"no users here: there is no mail in {pair.master.root}/mail" in client.err.decode()
    spool = pair.master.root / "mail" / "a" / "user" / "alice"
    spool.mkdir(parents=True)
    (spool / "cyrus.header").write_bytes(b"")
    for options in (["-A"], ["-u", "alice"]):
        client = pair.run(*options)
        assert client.process.returncode == 1
        assert f"{spool}/cyrus.header belongs to a real Cyrus" in client.err.decode()


def test_a_file_without_names_and_a_channel_that_is_not_there_are_pointed_out(pair, tmp_path):
    empty = tmp_path / "names"
    empty.write_text("# nobody\n")
    client = pair.run("-u", "-f", str(empty))
    assert client.process.returncode == 1 and f"no names in {empty}".encode() in client.err
    client = pair.run("-u", "-f", str(tmp_path / "none"))
    assert client.process.returncode == 64 and b"none" in client.err
    client = pair.run("-n", "nroth", "-u", "alice")
    assert client.process.returncode == 64 and b"there is no channel 'nroth'" in client.err


@pytest.mark.covers("GET, APPLY, RESTORE", "GET XUSERS")
def test_who_is_on_the_replica_alone_is_told_each_time_with_what_to_type(pair):
    pair.master.create("alice")
    pair.master.add("sync_authname: cyrus", "sync_password: secret")
    there = ["-S", f"127.0.0.1:{pair.server.port}"]
    assert pair.run(*there, "-A").process.returncode == 0
    pair.replica.create("bob")
    for text in ("one", "two"):
        pair.replica.deliver("bob", text)
    folder_of_replica = "user.alice.Split"
    with pair.replica.store.write(Owner("user", "alice")) as writer:
        writer.create(folder_of_replica)
    pair.replica.deliver("alice", "three", folder_of_replica)
    for _ in range(2):
        client = pair.run(*there, "-A")
        said = client.err.decode()
        assert client.process.returncode == 1
        assert "only the replica has user/alice/Split" in said and "with 1 message:" in said
        assert "only the replica has the user bob, with 1 mailbox and 2 messages" in said
        assert "sync_client -S master.example -u bob" in said
    client = pair.run("-u", "bob")
    assert client.process.returncode == 1 and b"only the replica has the user bob" in client.err
    client = pair.run(*there, "-A", "a")
    assert b"bob" not in client.err, "somebody asked for those with an a"
    assert pair.replica.has("bob") and pair.replica.has("alice", folder_of_replica)


@pytest.mark.covers("sync_client: options", "-m")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "67")
def test_m_takes_names_as_administrators_type_them(pair):
    pair.master.create("alice")
    folder(pair, "alice", "Work")
    folder(pair, "alice", "Play")
    client = pair.run("-vv", "-m", "user/alice", "user/alice/Work")
    assert client.process.returncode == 0
    assert pair.replica.has("alice", "user.alice.Work") and not pair.replica.has("alice", "user.alice.Play")
    assert commands(client).count("GET MAILBOXES") == 1


@pytest.mark.covers("sync_client: options", "-A")
def test_capital_a_replicates_everybody_and_shared_mailboxes(pair):
    pair.master.create("alice", "bob")
    with pair.master.store.write(Owner("shared", "news")) as writer:
        writer.create("news")
    assert pair.run("-A").process.returncode == 0
    assert pair.replica.has("alice") and pair.replica.has("bob")
    with pair.replica.store.read(Owner("shared", "news")) as reader:
        assert reader.mailbox("news") is not None


@pytest.mark.covers("sync_client: options", "-A")
def test_capital_a_with_a_prefix_replicates_those_only(pair):
    pair.master.create("alice", "bob")
    assert pair.run("-A", "user/a").process.returncode == 0
    assert pair.replica.has("alice") and not pair.replica.has("bob")


@pytest.mark.covers("sync_client: options", "-A")
def test_capital_a_goes_on_after_a_failure_and_exits_1(pair):
    pair.replica.create("bad")
    pair.replica.deliver("bad", "born on the wrong side")
    pair.master.create("alice", "bad", "carol")
    assert pair.run("-A").process.returncode == 1
    assert pair.replica.has("alice") and pair.replica.has("carol")


@pytest.mark.covers("sync_client: options", "-s")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "67")
def test_s_replicates_meta_data_only(pair):
    pair.master.create("alice")
    assert pair.run("-u", "alice").process.returncode == 0
    pair.master.deliver("alice", "not now")
    with pair.master.store.write(Owner("user", "alice")) as writer:
        writer.subscribe("user.alice.Work")
    client = pair.run("-vv", "-s", "alice")
    assert client.process.returncode == 0
    assert "GET META" in commands(client) and "APPLY SUB" in commands(client)
    assert pair.replica.messages("alice") == 0


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "67")
def test_s_replicates_scripts_between_ends_that_have_them_as_messages(pair):
    pair.master.create("alice")
    assert pair.run("-u", "alice").process.returncode == 0
    with pair.master.store.write(Owner("user", "alice")) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
    client = pair.run("-vv", "-s", "alice")
    assert client.process.returncode == 0
    with pair.replica.store.read(Owner("user", "alice")) as reader:
        found = {(script.filename, script.active) for script in reader.sieve_scripts()}
        assert ("main.bc", True) in found
        assert reader.sieve_content("main.script") == b"keep;\r\n"


@pytest.mark.covers("sync_client: options", "-p")
def test_p_puts_mailboxes_on_that_partition(pair):
    pair.master.create("alice")
    assert pair.run("-p", "fast", "-u", "alice").process.returncode == 0
    with pair.replica.store.read(Owner("user", "alice")) as reader:
        assert reader.mailbox("user.alice").partition == "fast"


@pytest.mark.covers("sync_client: options", "-L")
def test_capital_l_uses_the_local_form_of_commands(pair):
    pair.master.create("alice")
    client = pair.run("-L", "-vv", "-u", "alice")
    assert client.process.returncode == 0
    assert "APPLY LOCAL_MAILBOX" in commands(client) and "APPLY MAILBOX" not in commands(client)
    assert b"LOCAL_MAILBOX user.alice" in client.out


@pytest.mark.covers("sync_client: options", "-L")
def test_capital_l_renames_and_deletes_in_the_local_form_too(pair):
    pair.master.create("alice", "bob")
    folder(pair, "alice", "old")
    folder(pair, "alice", "gone")
    assert pair.run("-u", "alice", "bob").process.returncode == 0
    pair.master.store.rename("user.alice.old", "user.alice.new", log=True)
    with pair.master.store.write(Owner("user", "alice")) as box:
        box.delete("user.alice.gone", delayed=False)
    with pair.master.store.write(Owner("user", "bob")) as box:
        box.delete("user.bob", delayed=False)
    said = commands(pair.run("-L", "-vv", "-u", "alice")) + commands(pair.run("-L", "-vv", "-R", "-1"))
    for verb in ("RENAME", "UNMAILBOX", "UNUSER"):
        assert f"APPLY LOCAL_{verb}" in said and f"APPLY {verb}" not in said, said
    assert not pair.replica.has("bob") and not pair.replica.has("alice", "user.alice.gone")
    assert pair.replica.has("alice", "user.alice.new")


@pytest.mark.covers("sync_client: options", "-O")
def test_capital_o_forces_the_replica(pair):
    pair.master.create("alice")
    plain, forced = pair.run("-vv", "-u", "alice"), pair.run("-O", "-vv", "-u", "alice")
    assert "APPLY FORCE" in commands(forced) and "APPLY FORCE" not in commands(plain)


@pytest.mark.covers("sync_client: options", "-N")
def test_capital_n_does_not_wait_for_a_user_whom_another_client_works_on(pair):
    pair.master.create("alice", "bob")
    lock = pair.master.root / "conf" / "lock" / lock_name(str(pair.socket), "alice")
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert pair.run("-N", "-A").process.returncode == 0, "with -A a locked user is passed over"
        assert pair.replica.has("bob") and not pair.replica.has("alice")
        assert pair.run("-N", "-u", "alice").process.returncode == 1
        waiting = pair.client("-v", "-u", "alice")
        until(lambda: "login" in pair.server.log().splitlines()[-1], "it is connected")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.ended(0.3)
    assert waiting.ended() == 0 and pair.replica.has("alice")


def test_a_skipuser_file_holds_a_user_back(pair):
    pair.master.create("alice", "bob")
    (pair.master.directory() / "skipuser-alice").touch()
    assert pair.run("-A").process.returncode == 0
    assert pair.replica.has("bob") and not pair.replica.has("alice")


@pytest.mark.covers("sync_client: options", "-v")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "57")
@pytest.mark.parametrize("option", ["-v", "-vv"])
def test_v_says_what_is_done_and_twice_what_passes(pair, option):
    pair.master.create("alice")
    client = pair.run(option, "-u", "alice")
    assert client.out.decode().splitlines() == ["USER alice", "MAILBOX user.alice"]
    assert bool(commands(client)) is (option == "-vv")


def test_without_v_it_is_silent(pair):
    pair.master.create("alice")
    client = pair.run("-u", "alice")
    assert (client.process.returncode, client.out, client.err) == (0, b"", b"")


@pytest.mark.covers("sync_client: options", "-o")
@pytest.mark.covers("Exit statuses", "sync_client 1")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "58")
def test_o_tries_once(pair):
    client = pair.run("-o", "-S", "127.0.0.1:1", "-u", "alice")
    assert client.process.returncode == 1
    assert client.err.count(b"Can not connect to server '127.0.0.1:1'") == 1


@pytest.mark.covers("sync_client: options", "-o")
def test_o_in_rolling_mode_tries_once(pair):
    assert pair.run("-o", "-R", "-S", "127.0.0.1:1").process.returncode == 1


@pytest.mark.covers("imapd.conf", "sync_authname")
def test_a_wrong_password_is_told_at_once(pair):
    pair.master.add("sync_authname: cyrus", "sync_password: wrong")
    client = pair.run("-S", f"127.0.0.1:{pair.server.port}", "-u", "alice")
    assert client.process.returncode == 1 and b"authentication failed" in client.err


@pytest.mark.covers("sync_client: options", "-S")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "60")
def test_capital_s_overrides_the_configured_host(pair):
    pair.master.add("sync_authname: cyrus", "sync_password: secret")
    pair.master.create("alice")
    client = pair.run("-S", f"127.0.0.1:{pair.server.port}", "-u", "alice")
    assert client.process.returncode == 0, client.err
    assert pair.replica.has("alice")


@pytest.mark.covers("sync_client: options", "-z")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "59")
@pytest.mark.parametrize(
    ("options", "compressed"), [([], False), (["-z"], True), (["--require-compression"], True)]
)
def test_the_line_is_plain_unless_compression_is_asked_for(pair, options, compressed):
    pair.master.add("sync_authname: cyrus", "sync_password: secret")
    pair.master.create("alice")
    client = pair.run("-S", f"127.0.0.1:{pair.server.port}", "-vv", *options, "-u", "alice")
    assert client.process.returncode == 0
    assert (b"COMPRESS DEFLATE" in client.err) is compressed


@pytest.mark.covers("imapd.conf", "sync_compress")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "59")
def test_sync_compress_asks_for_compression_too(pair):
    pair.master.add("sync_authname: cyrus", "sync_password: secret", "sync_compress: yes")
    client = pair.run("-S", f"127.0.0.1:{pair.server.port}", "-vv", "-u", "alice")
    assert b"COMPRESS DEFLATE" in client.err


@pytest.mark.covers("imapd.conf", "sync_batchsize")
def test_sync_batchsize_bounds_the_messages_of_one_apply(pair):
    pair.master.create("alice")
    for number in range(3):
        pair.master.deliver("alice", f"number {number}")
    pair.master.add("sync_batchsize: 1")
    client = pair.run("-vv", "-u", "alice")
    assert client.process.returncode == 0 and commands(client).count("APPLY MAILBOX") == 3
    assert pair.same()


@pytest.mark.covers("imapd.conf", "sync_cache_db_path")
def test_sync_cache_db_path_remembers_the_replica_from_one_rolling_run_to_the_next(pair):
    pair.master.create("alice")
    asked = []
    for settings in ((), ("sync_cache_db_path: {configdirectory}/remembered",), ()):
        pair.master.add(*settings)
        pair.master.deliver("alice", "news")
        pair.master.directory().mkdir(exist_ok=True)
        pair.master.log().write_text("MAILBOX user.alice\n")
        client = pair.run("-vv", "-R", "-1")
        assert client.process.returncode == 0, client.err
        asked.append("GET MAILBOXES" in commands(client))
    assert asked == [True, True, False] and pair.same()


@pytest.mark.covers("sync_client: options", "--require-compression")
def test_a_server_that_does_not_compress_is_fine_with_z_and_not_if_it_is_required(pair):
    pair.master.create("alice")
    assert pair.run("-z", "-u", "alice").process.returncode == 0, "a UNIX socket offers nothing"
    refused = pair.run("--require-compression", "-u", "alice")
    assert refused.process.returncode == 1 and b"Failed to enable compression" in refused.err


@pytest.mark.covers("sync_client: options", "-a")
def test_a_gives_up_where_replication_archive_is_not_granted(pair):
    for mode in (["-u", "alice"], ["-R"]):
        client = pair.run("-a", *mode)
        assert client.process.returncode == 1 and b"REPLICATION-ARCHIVE" in client.err


@pytest.mark.covers("sync_client: options", "-a")
@pytest.mark.covers("Capabilities", "REPLICATION-ARCHIVE")
def test_a_asks_for_replication_archive_where_it_is_offered(pair):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = pair.client("-a", "-S", f"127.0.0.1:{listener.getsockname()[1]}/noauth", "-u", "alice")
        line, _ = listener.accept()
        with line, line.makefile("rwb") as file:
            file.write(b"* SIEVE-MAILBOX\r\n* REPLICATION-ARCHIVE\r\n* OK test\r\n")
            file.flush()
            assert file.readline() == b"APPLY CAPABILITIES (SIEVE-MAILBOX REPLICATION-ARCHIVE)\r\n"
            file.write(b"* ENABLED (SIEVE-MAILBOX REPLICATION-ARCHIVE)\r\nOK success\r\n")
            file.flush()
            assert file.readline() == b"GET USER alice\r\n"
            file.write(b"OK success\r\n")
            file.flush()
            assert file.readline() == b"EXIT\r\n"
            file.write(b"OK Finished\r\n")
            file.flush()
        assert client.ended() == 1, "there is no such user on either side"


@pytest.mark.covers("Exit statuses", "sync_client 75")
def test_a_signal_ends_a_one_shot_run_with_75(pair):
    client = pair.client("-S", "127.0.0.1:1", "-u", "alice")
    while b"retrying" not in client.err:
        assert client.process.poll() is None
    client.process.terminate()
    assert client.ended() == 75


@pytest.mark.covers("sync_client: options", "-w")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "63")
def test_w_waits_and_says_for_whom(pair):
    pair.master.create("alice")
    client = pair.run("-w", "1", "-u", "alice")
    assert client.process.returncode == 0
    said = f"sync_client: waiting 1 seconds for a debugger, process {client.process.pid}\n"
    assert client.err.decode() == said


@pytest.mark.covers("sync_client: options", "-f")
def test_names_come_from_standard_input(pair):
    pair.master.create("alice")
    done = subprocess.run(
        [BIN / "sync_client", "-C", pair.master.conf, "-u", "-f", "-"],
        input=b"# who\nalice\n",
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0 and pair.replica.has("alice")


# -- output that nobody reads


def unread(pair: Pair, *options: str) -> subprocess.Popen[bytes]:
    """A client whose standard output is a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.Popen(
            [BIN / "sync_client", "-C", pair.master.conf, *options],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
    finally:
        os.close(writer)


def test_v_of_a_run_that_nobody_reads_ends_it_quietly(pair):
    users = [f"user{number}" for number in range(150)]
    pair.master.create(*users)
    process = unread(pair, "-v", "-A")
    _, said = process.communicate(timeout=scaled(60))
    assert (process.returncode, said) == (1, b"")
    assert not all(pair.replica.has(user) for user in users), "it went on"
    assert pair.run("-A").process.returncode == 0
    assert pair.same()


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_v_of_a_run_whose_output_is_lost_is_said(pair, redirection):
    pair.master.create("alice")
    done = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {redirection}', "sh"),
            *(BIN / "sync_client", "-C", pair.master.conf, "-v", "-u", "alice"),
        ],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"sync_client: cannot write to standard output: .*\n", done.stderr)


def test_v_of_a_rolling_client_that_nobody_reads_does_not_stop_it(pair):
    pair.master.create("alice")
    process = unread(pair, "-v", "-R", "-d", "1")
    try:
        pair.master.deliver("alice", "one")
        until(lambda: pair.replica.has("alice") and pair.replica.messages("alice") == 1, "the first", 60)
        pair.master.deliver("alice", "two")
        until(lambda: pair.replica.messages("alice") == 2, "the second", 60)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=scaled(60))
    assert process.returncode == 75
    assert said.count(b"operations are not printed any more: standard output: Broken pipe\n") == 1
    assert b"Traceback" not in said


# -- certificates


@pytest.mark.parametrize("options", [["-u", "alice"], ["-R"]])
def test_a_certificate_that_ends_is_told_of_at_start_and_at_sighup(pair, tmp_path, options):
    authority = issue(tmp_path, "authority", days=4, ca=True)
    pair.master.create("alice")
    pair.master.add(f"tls_server_ca_file: {authority.cert}", "sync_authname: cyrus", "sync_password: secret")
    client = pair.client(*options, "-S", f"127.0.0.1:{pair.server.port}")
    said = f"tls_server_ca_file: {authority.cert}: the certificate CN=authority".encode()
    until(lambda: said + b" expires in 3 days" in client.err, "a warning at start", 60)
    if options == ["-R"]:
        issue(tmp_path, "authority", days=-2, ca=True)
        client.process.send_signal(signal.SIGHUP)
        until(lambda: said + b" has expired 2 days ago" in client.err, "a warning at SIGHUP", 60)
    else:
        assert client.ended(60) == 0
