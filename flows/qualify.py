"""What `ldct qualify` runs: a model on a hospital's own protocol."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flows import stages
from flows.ingest import ingest_stage
from flows.runtime.orchestration import in_flow
from flows.runtime.progress import StageProgress
from flows.tracking.qualification import record_qualification
from flows.tracking.registry import Registry
from pipeline.core.atomic_files import write_json
from pipeline.core.refusals import by_disposition
from pipeline.core.types import Json
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.evaluation.qualification import QualifyRequest, qualify
from pipeline.report.qualification import write_qualification
from pipeline.store.store import Store

REPORT, PAGE = "qualification.json", "qualification.html"


def qualify_flow(
    reference: str, source: Path, out: Path, request: QualifyRequest, *, intake: IngestOptions
) -> Json:
    """A denoiser on every full-dose CT of a source; writes OUT/qualification.json and .html.

    Of a registered model with a site the registry keeps it. Returns what the JSON holds, with
    "registered", and the refusals.
    """

    def body() -> Json:
        loaded = stages.load_stage(reference)
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            store = Store(Path(scratch))
            ingested = ingest_stage(source, store, intake)
            found = qualify(loaded, store, request, StageProgress)
        report = found.to_dict()
        write_json(out / REPORT, report)
        write_qualification(found, out / PAGE)
        if request.site and loaded.card.version:
            report["registered"] = record_qualification(Registry.default(), loaded.card.uri, found)
        return {**report, **by_disposition(ingested.refusals, ingested.root)}

    return in_flow("ldct-qualify", body)
