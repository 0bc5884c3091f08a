"""A DICOMweb service: QIDO-RS to search, WADO-RS to retrieve, STOW-RS to store (PS3.18)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from pipeline.config.credentials import Credentials, client_context, credentials
from pipeline.dicom.read.deflated import require_bounded
from pipeline.pacs.peers.peer import NoConnection, Peer, Refused, Unreachable
from pipeline.pacs.peers.stow_answer import require_no_failures, require_stored
from pipeline.pacs.settings.endpoints import Dicomweb
from pipeline.pacs.settings.hospital import RoutingRule
from pipeline.pacs.settings.rules import SeriesFacts, first_future, study_dates
from pipeline.pacs.work.item import PacsSeries

# Their messages hold URLs, and with them original UIDs.
for _logger in ("dicomweb_client", "urllib3.connectionpool"):
    logging.getLogger(_logger).setLevel(logging.CRITICAL + 1)

#: Images as the service has them, without a change of transfer syntax.
AS_STORED = (("application/dicom", "*"),)
#: The most of one STOW request, which goes in one chunk: Orthanc answers several chunks with 200
#: and stores nothing.
_MAX_REQUEST_BYTES = 64 * 1024**2
_CHUNK_BYTES = 2**31
#: HTTP status codes that another attempt may help against; other refusals are final.
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _TlsAdapter(requests.adapters.HTTPAdapter):
    """HTTPS with the context of the configuration, None for HTTP.

    A request is repeated where the service had closed the connection that was kept open;
    Orthanc does after a second.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(max_retries=Retry(total=2, connect=0, read=2, status=0, other=0))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the connections of this session the TLS context (requests calls this)."""
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(*args, **kwargs)


class _BoundedClient(DICOMwebClient):
    """Reads no retrieved image that is a decompression bomb (raises Unreadable)."""

    def _decode_multipart_message(
        self, response: requests.Response, stream: bool
    ) -> Iterator[bytes]:
        for part in super()._decode_multipart_message(response, stream):
            require_bounded(BytesIO(part))
            yield part


class DicomwebPeer(Peer):
    """A client of one service. Raises Unreachable for what may pass, Refused for what will not.

    Errors hold no URL: one would name the study.
    """

    def __init__(self, settings: Dicomweb) -> None:
        self.settings = settings
        session = requests.Session()
        # Neither a proxy nor a .netrc of the environment decides where patients' data go.
        session.trust_env = False
        session.max_redirects = 0
        if settings.login:
            session.auth = _auth(credentials(settings.login))
        secure = settings.url.startswith("https")
        adapter = _TlsAdapter(client_context(settings.tls) if secure else None)
        session.mount("https://" if secure else "http://", adapter)
        self._client = _BoundedClient(
            settings.url, session=session, chunk_size=_CHUNK_BYTES, timeout=settings.timeout_s
        )
        self._client.set_http_retry_params(retry=False)  # the ledger knows when to try again

    def candidates(
        self, rule: RoutingRule, *, today: date
    ) -> Iterator[tuple[PacsSeries, SeriesFacts]]:
        """Series that a rule may select, by QIDO: only modality and study date are searched for.

        Also those of the future, which no rule by date selects: their scanner's clock is wrong.
        """
        filters: list[dict[str, str]] = [{"Modality": name} for name in rule.modality] or [{}]
        first, last = study_dates(rule.date, today) if rule.date else (None, None)
        if first or last:
            future = first_future(today)
            spans = [f"{_compact(first)}-{_compact(last)}"]
            if last and last < future:
                spans.append(f"{_compact(future)}-")
            filters = [{**each, "StudyDate": span} for span in spans for each in filters]
        for each in filters:
            search = partial(self._client.search_for_series, search_filters=each)
            for header in _every_page(search, "SeriesInstanceUID"):
                series = self.list_instances(
                    str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
                )
                if series.instance_uids:
                    yield series, self._facts(series)

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images that the service has of a series, by QIDO."""
        search = partial(self._client.search_for_instances, study_uid, series_uid)
        found = _every_page(search, "SOPInstanceUID")
        uids = frozenset(str(header.SOPInstanceUID) for header in found)
        return PacsSeries(study_uid, series_uid, uids)

    def accession_number(self, study_uid: str, series_uid: str) -> str:
        """The accession number (0008,0050) of a study, by QIDO; "" where it has none."""
        del series_uid  # a study has one
        query = {"StudyInstanceUID": study_uid}
        with _network_errors():
            found = self._client.search_for_studies(
                search_filters=query, fields=["AccessionNumber"]
            )
            headers = [_dataset(row) for row in found]
        return str(headers[0].get("AccessionNumber", "") or "") if headers else ""

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        """Write every image of a series into a folder as the service has it, one file each."""
        with _network_errors():
            parts = self._client.iter_series(
                series.study_uid, series.series_uid, media_types=AS_STORED
            )
            for number, dataset in enumerate(parts):
                # pydicom writes elements that nothing has read as they came.
                dataset.save_as(folder / f"{number:06d}.dcm", enforce_file_format=True)

    def send(self, paths: list[Path]) -> None:
        """Store images by STOW, in requests of at most 64 MiB or one image."""
        for batch in _batches(paths):
            with _network_errors():
                answer = self._client.store_instances([pydicom.dcmread(path) for path in batch])
            require_stored(answer)

    def _facts(self, series: PacsSeries) -> SeriesFacts:
        """From one image's metadata: QIDO does not return a kernel."""
        with _network_errors():
            header = _dataset(
                self._client.retrieve_instance_metadata(
                    series.study_uid, series.series_uid, min(series.instance_uids)
                )
            )
        return SeriesFacts.of(header, len(series.instance_uids))


def _every_page(search: Callable[..., list[dict[str, Any]]], uid: str) -> list[Dataset]:
    """What a search finds, page by page (PS3.18 8.3.4.4), each with another `uid` once.

    A page that brings nothing new is the last: some services answer every offset with all they
    have.
    """
    found: dict[str, Dataset] = {}
    offset = 0
    while True:
        with _network_errors():
            page = [_dataset(row) for row in search(offset=offset)]
            new = {str(header[uid].value): header for header in page}
        if new.keys() <= found.keys():
            return list(found.values())
        found = {**new, **found}
        offset += len(page)


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn errors of HTTP, TLS and parsing into Unreachable and Refused, without URLs."""
    try:
        yield
    except requests.HTTPError as error:
        if error.response is not None:
            require_no_failures(error.response)
        code = error.response.status_code if error.response is not None else 0
        kind = Unreachable if code in _TRANSIENT else Refused
        raise kind(f"the DICOMweb service answered {code}") from None
    except requests.TooManyRedirects:
        raise Refused("the DICOMweb service redirects elsewhere; name its own URL") from None
    except requests.exceptions.SSLError as error:
        reason = getattr(_root_cause(error), "verify_message", "") or "no common TLS"
        raise Unreachable(f"the DICOMweb service's certificate (tls.ca): {reason}") from None
    except requests.RequestException as error:
        gone = isinstance(error, requests.ConnectionError | requests.ConnectTimeout)
        kind = NoConnection if gone else Unreachable
        raise kind(f"the DICOMweb service: {type(error).__name__}") from None
    except (ValueError, KeyError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        raise Refused(f"the DICOMweb service's answer: {type(error).__name__}") from None


def _root_cause(error: BaseException) -> BaseException:
    """The error that urllib3 and requests wrapped: it says what is wrong with a certificate."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _dataset(row: dict[str, Any]) -> Dataset:
    """DICOM JSON (PS3.18 F) without bulk data, such as pixels."""
    return Dataset.from_json(row, bulk_data_uri_handler=lambda *_: None)


def _auth(login: Credentials) -> AuthBase:
    return _Bearer(login.token) if login.token else HTTPBasicAuth(login.user, login.password)


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        file_size = path.stat().st_size
        if batch and size + file_size > _MAX_REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += file_size
    if batch:
        yield batch


def _compact(day: date | None) -> str:
    return day.strftime("%Y%m%d") if day else ""
