"""One connection to a syslog server, over TLS or not, that ends by hearing whether all was read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

_PIECE = 65536


class Connection(Protocol):
    """Messages are sent, then the end is said and waited for."""

    def send(self, content: bytes) -> None:
        """Send all of it; raises OSError."""

    def end(self) -> None:
        """Say that no more comes, and wait until the other side has read all and says so too.

        Raises OSError where it does not, or did not take what was sent.
        """


class PlainConnection:
    """TCP in the clear."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain

    def send(self, content: bytes) -> None:
        """Send all of it; raises OSError."""
        self._plain.sendall(content)

    def end(self) -> None:
        """As Connection has it: the other side closes."""
        self._plain.shutdown(socket.SHUT_WR)
        while self._plain.recv(_PIECE):
            pass


class TlsConnection:
    """TLS, of which each alert is seen: ssl.SSLSocket.unwrap takes one that refuses us for an end
    in good order.

    Raises OSError where the handshake fails.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._plain, self._in, self._out = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._through(self._tls.do_handshake)

    def send(self, content: bytes) -> None:
        """Send all of it; raises OSError."""
        left = memoryview(content)
        while left:
            left = left[self._tls.write(left) :]
            self._flush()

    def end(self) -> None:
        """As Connection has it. A server that wants another certificate of ours says so, in TLS
        1.3, after we could send all; one that has taken us may have sent a session ticket (RFC
        8446 4.6.1)."""
        self._read_what_came()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:  # our end is written; theirs is read below
            self._flush()
        try:
            while self._through(lambda: self._tls.read(_PIECE)):
                pass
        except ssl.SSLZeroReturnError:
            return
        except ssl.SSLEOFError:  # closed without TLS's own word for it, but not reset
            session = self._tls.session
            if self._tls.version() == "TLSv1.3" and not (session and session.has_ticket):
                raise

    def _read_what_came(self) -> None:
        """With the handshake: tickets, or an alert, which is raised."""
        try:
            while self._tls.read(_PIECE):
                pass
        except ssl.SSLWantReadError:
            return

    def _through(self, step: Callable[[], bytes | None]) -> bytes | None:
        """Do a step of TLS, with as much reading and writing as it takes."""
        while True:
            try:
                found = step()
                self._flush()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            else:
                return found

    def _receive(self) -> None:
        if content := self._plain.recv(_PIECE):
            self._in.write(content)
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        if content := self._out.read():
            self._plain.sendall(content)
