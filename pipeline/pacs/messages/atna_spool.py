"""Audit messages that wait, a file each, until a syslog server has taken them."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config.credentials import client_context
from pipeline.core.atomic_files import replacing, sync
from pipeline.pacs.messages.atna_connection import Connection, PlainConnection, TlsConnection
from pipeline.pacs.messages.atna_message import AuditEvent, to_syslog, to_xml
from pipeline.pacs.settings.atna import Atna
from pipeline.pacs.work.private import private_folder

#: Messages of one connection: of what a server took that is then cut off, so many are sent twice.
_BATCH = 200
_SUFFIX = ".syslog"


class AtnaSpool:
    """The messages in a folder, oldest first; safe with several processes."""

    def __init__(self, folder: Path, settings: Atna) -> None:
        self.folder, self._settings = folder, settings

    def add(self, event: AuditEvent) -> None:
        """Keep the message of an event that happened now; it is on the disk when this returns.

        Raises OSError where there is no space.
        """
        at = datetime.now(UTC)
        private_folder(self.folder)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        with replacing(self.folder / name) as partial:
            partial.write_bytes(to_syslog(to_xml(event, self._settings, at), at))
            partial.chmod(0o600)
        sync(self.folder)

    def waiting(self) -> list[Path]:
        """The files of messages that no server has taken, oldest first."""
        return sorted(self.folder.glob(f"[!.]*{_SUFFIX}"))

    def send(self) -> int:
        """Send what waits; how many messages a server has taken. 0 where another process sends.

        Syslog has no answers: a message counts as taken once the server, which read all of it, has
        ended the connection in good order. What was sent before an error is sent again.

        Raises OSError, and ConfigError for certificates that cannot be used.
        """
        if not self.waiting():
            return 0
        sent = 0
        with self._alone() as alone:
            while alone and (batch := self.waiting()[:_BATCH]):
                with self._connected() as connection:
                    for path in batch:
                        connection.send(path.read_bytes())
                    connection.end()
                for path in batch:
                    path.unlink()
                sent += len(batch)
        return sent

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        descriptor = os.open(self.folder / ".sending", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        where = self._settings.host, self._settings.port
        with socket.create_connection(where, timeout=self._settings.timeout_s) as plain:
            if self._settings.tls is None:
                yield PlainConnection(plain)
                return
            context = client_context(self._settings.tls)
            yield TlsConnection(plain, context, self._settings.host)
