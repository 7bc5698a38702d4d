"""A real Cyrus with our sync_client in place of its own, which reads the spool and the daemons' action log.

It runs with the same imapd.conf, as whoever runs the tests: the user cyrus may not reach our programs here.
"""

from __future__ import annotations

from collections.abc import Sequence

from .cyrus import ADMIN, PASSWORD, Address, Cyrus
from .ours import BIN, environment
from .running import Finished, Rolling, dying_with_us, finish


class BesideCyrus(Cyrus):
    """What differs from `Cyrus`: which program replicates. `settles`: it may settle through this Cyrus's own
    csync server; `asks`: it reads that, too, and not the spool."""

    settles = False
    asks = False

    def own_csync(self) -> dict[str, str]:
        """What imapd.conf says for that."""
        host, port = self.csync
        return {
            "cyrus_csync": f"{host}:{port}",
            "cyrus_csync_authname": ADMIN,
            "cyrus_csync_password": PASSWORD,
        }

    def _client(self, to: Address, extra: dict[str, str] | None) -> list[str]:
        own = self.own_csync() if self.settles or self.asks else {}
        if self.asks:
            own["sync_source"] = "csync"
        conf = self.client_config(to, {"sync_allowplaintext": "yes", **own, **(extra or {})})
        conf.chmod(0o600)  # there is a password in it
        return [str(BIN / "sync_client"), "-C", str(conf)]

    def sync_client(
        self,
        *args: str,
        to: Address,
        extra: dict[str, str] | None = None,
        timeout: float = 120,
        program: Sequence[str] = (),
    ) -> Finished:
        command = [*program, *self._client(to, extra), "-o", *args]
        return finish(command, timeout, {"env": environment()})

    def follow(self, to: Address, extra: dict[str, str] | None = None) -> Finished:
        return self.sync_client("-R", "-1", to=to, extra=extra)

    def roll(self, *args: str, to: Address, extra: dict[str, str] | None = None) -> Rolling:
        command = [*dying_with_us(), *self._client(to, extra), "-R", "-v", *args]
        rolling = Rolling(command, self.root / f"rolling{self._clients}.out", env=environment())
        self._rolling.append(rolling)
        return rolling

    def own_client(self, *args: str, to: Address, extra: dict[str, str] | None = None) -> Finished:
        """One run of the client that Cyrus brings along."""
        return super().sync_client(*args, to=to, extra=extra)

    def own_follow(self, to: Address) -> Finished:
        """Carry out what is in the action log by that one."""
        if self.release.number >= (3, 6):
            return self.own_client("-R", "-1", to=to)
        claimed = self.sync_log.with_name("log-followed")
        self.sync_log.rename(claimed)
        ran = self.own_client("-R", "-f", str(claimed), to=to)
        if ran.status == 0:
            claimed.unlink()
        return ran
