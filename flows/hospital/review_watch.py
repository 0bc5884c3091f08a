"""Health of the review server: whether it answers, in time and by its pool of threads."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from flows.hospital.watched import Health, Part
from pipeline.review.access.control import HEALTH

TIMEOUT_S = 10.0


@dataclass
class ReviewWatch(Part):
    """Asks the review server of this process as a browser would. port: where it listens.

    tls: what the server speaks, if it does. It is this process's own server on this computer, so
    its certificate, which names another host, is not looked at.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str = "review"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def health(self) -> Health:
        """What its own /health answers; a server that hangs does not."""
        connection = self._connection()
        try:
            connection.request("GET", HEALTH)
            status = connection.getresponse().status
        except (ssl.SSLError, ConnectionResetError) as error:
            # One that wants a browser's certificate has answered when it refuses for lack of one.
            wanted = self.tls is not None and self.tls.verify_mode == ssl.CERT_REQUIRED
            return Health(wanted, {"server": "ok" if wanted else type(error).__name__})
        except (OSError, http.client.HTTPException) as error:
            return Health(False, {"server": type(error).__name__})
        finally:
            connection.close()
        well = status == http.HTTPStatus.OK
        return Health(well, {"server": "ok" if well else f"answered {status}"})

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        own = ssl.create_default_context()
        own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=own)
