"""Health of the review server: whether it answers, in time and by its pool of threads."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from flows.hospital.watched import Health, Part
from pipeline.review.server import HEALTH

TIMEOUT_S = 10.0


@dataclass
class ReviewWatch(Part):
    """Asks the review server of this process as a browser would. port: where it listens."""

    host: str
    port: int
    name: str = "review"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def health(self) -> Health:
        """What its own /health answers; a server that hangs does not."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", HEALTH)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return Health(False, {"server": type(error).__name__})
        finally:
            connection.close()
        well = status == http.HTTPStatus.OK
        return Health(well, {"server": "ok" if well else f"answered {status}"})
