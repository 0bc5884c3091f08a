"""pynetdicom's server for associations, with bounds on what a peer may make it hold or wait for.

pynetdicom reads a PDU of whatever length its first six bytes claim (up to 4 GiB), before any title
is looked at, collects a message of any size, waits for a silent peer without end, and does a TLS
handshake in the thread that accepts connections. PDUs: PS3.8 9.3.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

#: Called with a peer's address and why it was not heard.
OnRefusal = Callable[[str, str], None]

PDU_HEAD_BYTES = 6
P_DATA_TF = 0x04
#: An A-ASSOCIATE-RQ with its 128 presentation contexts, each with every transfer syntax there is,
#: takes about 200 KiB; P-DATA-TF keeps to what we said we take, 16 KiB, or to some more.
MAX_PDU_BYTES = 1024 * 1024
#: Messages that were sent before the answer to the last one, which neither side negotiated (PS3.7
#: D.3.3.3), and are held until their turn.
MAX_WAITING_MESSAGES = 2
HANDSHAKE_S = 30.0
#: A-ABORT (PS3.8 9.3.8): by the service provider, invalid PDU parameter value.
_SERVICE_PROVIDER, _INVALID_VALUE = 0x02, 0x06


class PeerRefusedError(OSError):
    """What a peer sends is not taken; the connection is closed."""


@dataclass
class PduBounds:
    """In place of an AssociationSocket's `recv`: aborts the association instead of reading a PDU
    that goes beyond the bounds.

    read: the `recv` that is bounded.
    """

    association: Association
    read: Callable[[int], bytearray]
    server: BoundedServer
    _body_bytes: int | None = None

    def __call__(self, number: int) -> bytearray:
        """Read `number` bytes: of a PDU's head and of its body in turn, as pynetdicom does.

        Raises PeerRefusedError, which pynetdicom takes for a closed connection.
        """
        found = self.read(number)
        if self._body_bytes is not None:
            self._body_bytes = None
        elif len(found) == PDU_HEAD_BYTES:
            kind, length = found[0], int.from_bytes(found[2:], "big")
            if fault := self._fault(kind, length):
                self._refuse(fault)
            self._body_bytes = length
        return found

    def _fault(self, kind: int, length: int) -> str:
        if length > MAX_PDU_BYTES:
            return (
                f"a PDU of type {kind:02X} that claims {length} bytes, where at most "
                f"{MAX_PDU_BYTES} are taken (PS3.8 D.1)"
            )
        if kind != P_DATA_TF:
            return ""
        dimse = self.association.dimse
        if dimse.msg_queue.qsize() > MAX_WAITING_MESSAGES:
            return "messages sent before the last one was answered (PS3.7 D.3.3.3)"
        most = self.server.max_message_bytes
        if _held_bytes(dimse.message) + length > most:
            return f"an image of more than {most // 1024**2} MiB: see receive.max_image_mib"
        return ""

    def _refuse(self, fault: str) -> None:
        known = self.association.requestor.address_info
        self.server.on_refusal(known.address if known else "", fault)
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = _SERVICE_PROVIDER, _INVALID_VALUE
        connection = cast(AssociationSocket, self.association.dul.socket)
        connection.send(abort.encode())
        raise PeerRefusedError(fault)


class BoundedHandler(RequestHandler):
    """Makes associations whose PDUs and messages are bounded."""

    server: BoundedServer

    def _create_association(self) -> Association:
        association = super()._create_association()
        connection = cast(AssociationSocket, association.dul.socket)
        bounds = PduBounds(association, connection.recv, self.server)
        connection.recv = bounds
        return association


class BoundedServer(ThreadedAssociationServer):
    """A server in which no peer takes what others need.

    max_message_bytes: of a message's command and data set.
    """

    def __init__(
        self, *args: Any, max_message_bytes: int, on_refusal: OnRefusal, **options: Any
    ) -> None:
        super().__init__(*args, request_handler=BoundedHandler, **options)
        self.max_message_bytes, self.on_refusal = max_message_bytes, on_refusal
        self._last_looked = time.monotonic()
        self.ae._servers.append(self)  # where `shutdown` looks for it

    def service_actions(self) -> None:
        """Note that the thread which accepts connections lives (serve_forever calls this)."""
        self._last_looked = time.monotonic()
        super().service_actions()

    def idle_s(self) -> float:
        """For how long no thread has looked for connections: a moment, unless that thread hangs."""
        return time.monotonic() - self._last_looked

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection; the TLS handshake is left to the connection's own thread."""
        assert self.socket is not None
        return self.socket.accept()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, and start the association; in a thread of the connection's own."""
        request.settimeout(HANDSHAKE_S)
        try:
            if self.ssl_context:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            request.settimeout(self.ae.network_timeout)
        except OSError as error:  # TLS errors are
            self.on_refusal(client_address[0], f"no connection ({type(error).__name__})")
            self.shutdown_request(request)
            return
        super().finish_request(request, client_address)


def _held_bytes(message: DIMSEMessage | None) -> int:
    if message is None:
        return 0
    parts = (message.encoded_command_set, message.data_set)
    return sum(part.getbuffer().nbytes for part in parts if part is not None)
