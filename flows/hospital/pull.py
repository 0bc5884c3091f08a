"""Ask the source of a hospital for series, by its rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from flows.hospital.endpoints import open_source
from flows.runtime.progress import log
from pipeline.config.shipped import PRETRAINED
from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.query import (
    CandidateSeries,
    PullCounts,
    add_to_ledger,
    count_matches,
    find_candidates,
)
from pipeline.pacs.peers.study_folder import StudyFolderSource
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.settings.rules import WRONG_CLOCK
from pipeline.pacs.work.ledger import Ledger


def pull_series(settings: Pacs, *, dry_run: bool) -> tuple[list[CandidateSeries], PullCounts]:
    """Search the source by the rules; without dry_run, put what matches into the ledger.

    Raises ConfigError where no source is configured.
    """
    if settings.source is None:
        raise ConfigError(
            "source: name the DICOMweb service or the folder to ask, or use `ldct pacs receive`"
        )
    source = open_source(settings, dry_run=dry_run)
    assert source is not None
    candidates = find_candidates(source, list(settings.rules), today=date.today())
    if dry_run:
        counts = count_matches(candidates)
    else:
        model = pin_version(settings.model)
        counts = add_to_ledger(candidates, Ledger(settings.work), settings, model=model)
    if isinstance(source, StudyFolderSource):
        counts = replace(counts, unreadable=source.unreadable())
    if number := counts.wrong_clock:
        log("clock", f"{number} series have {WRONG_CLOCK}", {"wrong_clock": number})
    return candidates, counts


def pin_version(reference: str) -> str:
    """The version that a reference such as NAME@champion resolves to now.

    Work is added with a version, so that it keeps it when the alias moves.
    """
    if reference.endswith(f"@{PRETRAINED}"):
        return reference
    from flows.tracking.registry import Registry  # MLflow takes seconds to import

    version = Registry.default().find(reference)
    return f"models:/{version.name}/{version.version}"
