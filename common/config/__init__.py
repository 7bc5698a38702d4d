"""imapd.conf(5): the file (`imapdconf`), its options (`options`), typed access (`Config`)."""

from cyrus_sync.common.config.config import DEFAULT_PATH, Config

__all__ = ["DEFAULT_PATH", "Config"]
