"""An audit record repository for tests: syslog over TLS (RFC 5425) or TCP, on loopback."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import struct
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager

#: RFC 5424: PRI, version, time, host, application, process, message id, no structured data, BOM.
LINE = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ ldct \d+ DICOM\+RFC3881 - "
    rb"\xef\xbb\xbf(<\?xml .*)",
    re.DOTALL,
)
CODED = {"csd-code", "codeSystemName", "originalText"}
#: Of PS3.15 A.5.1: children in their order (? 0 or 1, * any, + 1 or more), attributes that must be
#: there, and those that may.
SCHEMA: dict[str, tuple[str, set[str], set[str]]] = {
    "AuditMessage": (
        "EventIdentification ActiveParticipant+ AuditSourceIdentification "
        "ParticipantObjectIdentification*",
        set(),
        set(),
    ),
    "EventIdentification": (
        "EventID EventTypeCode* EventOutcomeDescription?",
        {"EventDateTime", "EventOutcomeIndicator"},
        {"EventActionCode"},
    ),
    "ActiveParticipant": (
        "RoleIDCode* MediaIdentifier?",
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
    ),
    "AuditSourceIdentification": (
        "AuditSourceTypeCode*",
        {"AuditSourceID"},
        {"AuditEnterpriseSiteID"},
    ),
    "ParticipantObjectIdentification": (
        "ParticipantObjectIDTypeCode ParticipantObjectName ParticipantObjectDetail* "
        "ParticipantObjectDescription*",
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
    ),
    "ParticipantObjectDescription": ("MPPS* Accession* SOPClass*", set(), set()),
    "SOPClass": ("Instance*", {"NumberOfInstances"}, {"UID"}),
    "AuditSourceTypeCode": ("", {"csd-code"}, CODED),
    "ParticipantObjectName": ("", set(), set()),
    **{
        name: ("", CODED, {"displayName"})
        for name in ("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode")
    },
}


def require_valid(element: ET.Element) -> None:
    """The element and all below it are as PS3.15 A.5.1 has them."""
    children, needed, allowed = SCHEMA[element.tag]
    pattern = re.sub(r"([A-Za-z]+)([*+?]?) ?", r"(?:\1 )\2", children)
    found = "".join(f"{child.tag} " for child in element)
    assert re.fullmatch(pattern, found), (element.tag, found)
    assert needed <= set(element.keys()) <= needed | allowed, (element.tag, element.keys())
    for child in element:
        require_valid(child)


class SyslogServer(socketserver.ThreadingTCPServer):
    """Takes messages, parsed and checked; `fails` connections are reset unread first."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, port: int, context: ssl.SSLContext | None, fails: int = 0) -> None:
        self.context, self.fails = context, fails
        self.lines: list[bytes] = []
        super().__init__(("127.0.0.1", port), _Connection)

    @property
    def messages(self) -> list[ET.Element]:
        found = [ET.fromstring(LINE.fullmatch(line)[1]) for line in self.lines]
        for message in found:
            require_valid(message)
        return found

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us."""


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server, connection = self.server, self.request
        assert isinstance(server, SyslogServer)
        if server.context:
            connection = server.context.wrap_socket(connection, server_side=True)
        if server.fails:
            server.fails -= 1
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return
        content = b""
        while more := connection.recv(65536):
            content += more
        while content:
            length, _, rest = content.partition(b" ")
            server.lines.append(rest[: int(length)])
            content = rest[int(length) :]
        if server.context:
            connection.unwrap()
        connection.close()


@contextmanager
def syslog_server(
    port: int, tls: dict[str, str] | None = None, fails: int = 0, clients: str | None = None
) -> Iterator[SyslogServer]:
    """clients: the authority of certificates that callers must have; None: none is asked for."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls["certificate"], tls["key"])
    if context and clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    with SyslogServer(port, context, fails) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
