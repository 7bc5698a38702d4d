"""A private, real Cyrus IMAP in a directory of its own: the judge of everything we claim about the protocol.

A `Cyrus` is a running installation: its own configuration, databases and spool below one directory, its
own loopback ports for imap, lmtp, csync and sieve, everything owned by the system user ``cyrus`` (Cyrus
refuses to run as root). It is ended by the process id of its ``master``, and `stop` insists that no
process of it is left.

>>> with Cyrus.running("master") as master:
...     master.create_user("alice")
...     master.sync_client("-u", "alice", to=replica.csync).check()
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deadlines import until
from tests.ports import free_port

from .imap import Imap
from .lmtp import deliver
from .managesieve import ManageSieve
from .releases import PROGRAMS, Release, current, search_path
from .running import Finished, Rolling, default_ground, finish, listening, processes_of

ADMIN = "cyrus"
PASSWORD = "lab-secret"
Address = tuple[str, int]


def give_to_cyrus(path: Path) -> None:
    """Make `path` and all that is below it the property of the user cyrus."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam("cyrus")
    for name in (path, *path.rglob("*")):
        os.chown(name, user.pw_uid, user.pw_gid, follow_symlinks=False)


def write_client_config(path: Path, installation: Path, to: Address, options: dict[str, str]) -> None:
    """An imapd.conf for a sync_client: that of an installation, whom to talk to, and further options. One
    whose value is empty is left out."""
    login = {"sync_authname": ADMIN, "sync_password": PASSWORD}
    said = {"sync_host": to[0], "sync_port": str(to[1]), **login, **options}
    lines = [f"{key}: {value}\n" for key, value in said.items() if value]
    path.write_text(f"@include: {installation}\n" + "".join(lines))


class Cyrus:
    """One installation. `settings` are lines of imapd.conf that replace or join the usual ones; ``{root}``
    in them is its directory. `release`: which Cyrus, the current one unless it is given."""

    def __init__(
        self,
        root: Path,
        name: str,
        settings: dict[str, str] | None = None,
        release: Release | None = None,
    ) -> None:
        self.root = root
        self.release = release or current()
        self.name = name
        self.servername = f"{name}.lab"
        services = [
            "imap",
            "lmtp",
            "csync",
            "sieve",
            *(["http"] if "httpmodules" in (settings or {}) else []),
        ]
        self.ports = {service: free_port() for service in services}
        self.config = root / "imapd.conf"
        self.master: subprocess.Popen[bytes] | None = None
        self._clients = 0
        self._rolling: list[Rolling] = []
        self._write_files(settings or {})

    @classmethod
    @contextmanager
    def running(
        cls,
        name: str,
        settings: dict[str, str] | None = None,
        ground: Path | None = None,
        release: Release | None = None,
    ) -> Iterator[Cyrus]:
        """A started Cyrus in a new directory (below `ground`, else memory if there is any), then gone."""
        root = Path(tempfile.mkdtemp(prefix=f"cy-{name}-", dir=ground or default_ground()))
        try:
            cyrus = cls(root, name, settings, release)
            cyrus.start()
            try:
                yield cyrus
            finally:
                cyrus.stop()
        finally:
            shutil.rmtree(root, ignore_errors=True)

    # -- files

    def _write_files(self, settings: dict[str, str]) -> None:
        root = self.root
        for directory in ("conf/db", "conf/socket", "conf/sync", "conf/log", "conf/proc", "spool", "sieve"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        options = {
            "configdirectory": f"{root}/conf",
            "defaultpartition": "default",
            "partition-default": f"{root}/spool",
            "sievedir": f"{root}/sieve",
            "servername": self.servername,
            "admins": ADMIN,
            "unixhierarchysep": "yes",
            "altnamespace": "no",
            "virtdomains": "off",
            "allowplaintext": "yes",
            "sasl_mech_list": "PLAIN",
            "sasl_pwcheck_method": "auxprop",
            "sasl_auxprop_plugin": "sasldb",
            "sasl_sasldb_path": f"{root}/conf/sasldb2",
            "sync_log": "1",
            "annotation_allow_undefined": "1",
            "allowusermoves": "yes",
            "failedloginpause": "0",
            "lmtp_downcase_rcpt": "yes",
        }
        options.update({key: value.replace("{root}", str(root)) for key, value in settings.items()})
        for key, value in options.items():
            if key.startswith(("partition-", "archivepartition-")):
                Path(value).mkdir(parents=True, exist_ok=True)
        self.config.write_text("".join(f"{key}: {value}\n" for key, value in options.items()))
        imapd_conf, listen = self.config, {s: f'listen="127.0.0.1:{p}"' for s, p in self.ports.items()}
        http = ""
        if "http" in listen:
            http = f' http cmd="{PROGRAMS}/httpd -C {imapd_conf}" {listen["http"]} prefork=0 maxchild=20\n'
        (root / "cyrus.conf").write_text(
            f'START {{\n recover cmd="{PROGRAMS}/ctl_cyrusdb -C {imapd_conf} -r"\n}}\n'
            "SERVICES {\n"
            f' imap cmd="{PROGRAMS}/imapd -C {imapd_conf}" {listen["imap"]} prefork=0 maxchild=50\n'
            f' lmtp cmd="{PROGRAMS}/lmtpd -C {imapd_conf} -a" {listen["lmtp"]} prefork=0 maxchild=20\n'
            f' csync cmd="{PROGRAMS}/sync_server -C {imapd_conf}" {listen["csync"]} prefork=0 maxchild=50\n'
            f' sieve cmd="{PROGRAMS}/timsieved -C {imapd_conf}" {listen["sieve"]} prefork=0 maxchild=20\n'
            f"{http}}}\nEVENTS {{\n}}\n"
        )
        root.chmod(0o755)
        give_to_cyrus(root)
        self.set_password(ADMIN)

    def set_password(self, user: str) -> None:
        """Let `user` log in with PASSWORD."""
        database = f"{self.root}/conf/sasldb2"
        subprocess.run(
            self.release.command("saslpasswd2", "-p", "-c", "-f", database, "-u", self.servername, user),
            input=PASSWORD.encode(),
            check=True,
            capture_output=True,
            env={"PATH": search_path()},
            **self.release.how,
        )

    @property
    def sync_log(self) -> Path:
        """The action log of the default channel."""
        return self.root / "conf" / "sync" / "log"

    # -- life

    def start(self) -> None:
        """Start ``master`` and wait until every service listens."""
        assert self.master is None
        with (self.root / "master.out").open("ab") as output:
            self.master = subprocess.Popen(
                self.release.command(
                    str(PROGRAMS / "master"),
                    "-D",
                    "-C",
                    str(self.config),
                    "-M",
                    str(self.root / "cyrus.conf"),
                    "-p",
                    str(self.root / "conf" / "master.pid"),
                    dying=True,
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                **self.release.how,
            )
        until(self._listens, f"{self.name}: listens on {self.ports}")

    def _listens(self) -> bool:
        """Whether all services do. Nobody connects to see that: ``master`` would start a process for each."""
        assert self.master is not None
        if self.master.poll() is not None:
            raise AssertionError(f"Cyrus {self.name} ended:\n{(self.root / 'master.out').read_text()}")
        return listening(*self.ports.values())

    def stop(self) -> None:
        """End ``master`` and insist that all its processes are gone."""
        for client in self._rolling:
            client.stop()
        self._rolling.clear()
        if self.master is None:
            return
        # While a connection waits to be accepted its pselect() never gets round to a pending signal, and
        # it spins: then only SIGKILL helps, and its children are ended one by one below.
        self.master.send_signal(signal.SIGTERM)
        try:
            self.master.wait(1)
        except subprocess.TimeoutExpired:
            self.master.kill()
            self.master.wait()
        self.master = None
        for last in (signal.SIGTERM, signal.SIGKILL):
            for pid in processes_of(self.root):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, last)
            with contextlib.suppress(AssertionError):
                until(lambda: not processes_of(self.root), "children end", 3)
                return
        raise AssertionError(f"processes of {self.name} are left: {processes_of(self.root)}")

    # -- talking to it

    @property
    def csync(self) -> Address:
        return ("127.0.0.1", self.ports["csync"])

    def imap(self, user: str = ADMIN) -> Imap:
        """A session as `user`, by the administrator's password."""
        return Imap("127.0.0.1", self.ports["imap"], user, ADMIN, PASSWORD)

    def sieve(self, user: str) -> ManageSieve:
        return ManageSieve("127.0.0.1", self.ports["sieve"], user, ADMIN, PASSWORD)

    def deliver(self, message: bytes, *recipients: str) -> None:
        """Hand a message to lmtpd. Recipients as lmtpd has them: ``alice`` or ``alice+Folder``."""
        deliver("127.0.0.1", self.ports["lmtp"], message, recipients)

    def create_user(self, *users: str) -> None:
        """Create the INBOX of each."""
        with self.imap() as admin:
            for user in users:
                admin.ok("CREATE", f"user/{user}")

    # -- its programs

    def tool(self, program: str, *args: str, timeout: float = 60, conf: Path | None = None) -> Finished:
        """Run one of Cyrus's own programs with this installation's configuration."""
        return self._run([str(PROGRAMS / program), "-C", str(conf or self.config), *args], timeout)

    def _run(self, command: list[str], timeout: float) -> Finished:
        return finish(self.release.command(*command), timeout, self.release.how)

    def client_config(self, to: Address, extra: dict[str, str] | None = None) -> Path:
        """An imapd.conf for sync_client: this installation's, and whom to talk to."""
        self._clients += 1
        path = self.root / f"client{self._clients}.conf"
        write_client_config(path, self.config, to, {"sync_try_imap": "0", **(extra or {})})
        give_to_cyrus(path)
        return path

    def sync_client(
        self,
        *args: str,
        to: Address,
        extra: dict[str, str] | None = None,
        timeout: float = 60,
        program: Sequence[str] = (),
    ) -> Finished:
        """One run of the real sync_client towards the csync server at `to`."""
        conf = self.client_config(to, extra)
        command = [*program, str(PROGRAMS / "sync_client"), "-C", str(conf), "-o", *args]
        return self._run(command, timeout)

    def follow(self, to: Address, extra: dict[str, str] | None = None) -> Finished:
        """Carry out what is in the sync log now, once."""
        if self.release.number >= (3, 6):
            return self.sync_client("-R", "-1", to=to, extra=extra)
        # 3.2 knows no -1, but ends after a log that is named.
        claimed = self.sync_log.with_name("log-followed")
        self.sync_log.rename(claimed)
        ran = self.sync_client("-R", "-f", str(claimed), to=to, extra=extra)
        if ran.status == 0:
            claimed.unlink()
        return ran

    def roll(self, *args: str, to: Address, extra: dict[str, str] | None = None) -> Rolling:
        """Start a rolling sync_client (``-R``) and leave it running."""
        conf = self.client_config(to, extra)
        command = [str(PROGRAMS / "sync_client"), "-C", str(conf), "-R", "-v", *args]
        rolling = Rolling(
            self.release.command(*command, dying=True),
            self.root / f"rolling{self._clients}.out",
            **self.release.how,
        )
        self._rolling.append(rolling)
        return rolling


def follow_log(master: Cyrus, to: Address) -> None:
    """Carry out the sync log, as a rolling client's next cycle would."""
    for _ in range(2):
        if master.sync_log.exists():
            master.follow(to).check()
    assert not master.sync_log.with_name("log-run").exists()
