"""A mail server and a webhook that tests can read: of the standard library, over TLS too."""

from __future__ import annotations

import base64
import email
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class MailServer(socketserver.ThreadingTCPServer):
    """Speaks SMTP as far as smtplib asks. mails: what came, with the login it came by.

    tls: certificate and key; from the start where `implicit`, else offered by STARTTLS.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self, tls: dict[str, str] | None = None, *, implicit: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.mails: list[tuple[str, Message]] = []
        self.refuse, self.implicit = "", implicit
        self.context: ssl.SSLContext | None = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(tls["certificate"], tls["key"])

    @property
    def port(self) -> int:
        return self.server_address[1]


class _Smtp(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.login, self.secured = "", False
        try:
            if self.server.implicit:
                self._secure()
            self._say("220 tests")
            while line := self.rfile.readline():
                if not self._answer(line.decode().strip()):
                    return
        except OSError:
            return  # a client that does not trust the certificate

    def _answer(self, line: str) -> bool:
        word = line.split(" ")[0].upper()
        if word == "EHLO":
            offers = ["tests", "AUTH PLAIN"]
            if self.server.context and not self.secured:
                offers.append("STARTTLS")
            self._say(*[f"250-{offer}" for offer in offers[:-1]], f"250 {offers[-1]}")
        elif word == "STARTTLS":
            self._say("220 go on")
            self._secure()
        elif word == "AUTH":
            self.login = base64.b64decode(line.split(" ")[2]).decode().replace("\0", ":").strip(":")
            self._say("235 known")
        elif word == "DATA":
            self._take()
        elif word == "QUIT":
            self._say("221 bye")
            return False
        else:
            self._say("250 ok")
        return True

    def _take(self) -> None:
        if self.server.refuse:
            self._say(self.server.refuse)
            return
        self._say("354 go on")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line)
        how = "tls" if self.secured else "clear"
        self.server.mails.append((f"{how} {self.login}", email.message_from_bytes(b"".join(lines))))
        self._say("250 taken")

    def _secure(self) -> None:
        assert self.server.context is not None
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.secured = True
        self.setup()

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class HookServer(ThreadingHTTPServer):
    """Takes POSTs of JSON. taken: (path, Authorization, body). status: what it answers."""

    daemon_threads = True

    def __init__(self, tls: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.taken: list[tuple[str, str, dict[str, Any]]] = []
        self.status = 200
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls["certificate"], tls["key"])
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        return f"{scheme}://127.0.0.1:{self.server_port}/hook"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate."""


class _Hook(BaseHTTPRequestHandler):
    server: HookServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((self.path, self.headers.get("Authorization", ""), body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """The server, answering in a thread while the block lasts."""
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
