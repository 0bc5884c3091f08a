"""What `ldct latent fill` runs: regions of CT or pictures made up by a registered generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flows.latent import load_generator
from flows.pictures import item_of, marked_rows, pictures_batch, pictures_report
from flows.runtime.batch import each_volume
from flows.runtime.orchestration import in_flow
from flows.runtime.progress import StageProgress
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json, Progress
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.filled import MISSING, FillRequest, export_filled
from pipeline.export.filled_pictures import Masks, fill_pictures, white_of
from pipeline.export.pictures import targets
from pipeline.export.series import Export, Exported
from pipeline.generative.fill import require_generator
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.generative import Generative

#: (source, target) of pictures, and what to report of each.
Pairs = list[tuple[Path, Path]]
Rows = list[Json]


def fill_flow(
    reference: str,
    source: Path,
    out: Path,
    *,
    wanted: FillRequest,
    intake: IngestOptions,
    sequence: bool,
) -> Json:
    """Every volume, or picture, of a source with its region made up; writes OUT/report.json."""
    to = Export(out)

    def body() -> Json:
        model, card, config = load_generator(reference)
        require_generator(model)
        settings = config.generation
        asked = replace(wanted, fill=replace(wanted.fill, clip=settings.clip))
        if settings.source == "series":
            if sequence:
                raise ConfigError("--sequence is for pictures: the slices of CT always are one")
            done = fill_volumes(model, card, source, to, wanted=asked, intake=intake)
        else:
            white = white_of(config)
            masks = Masks(Path(asked.region), source if source.is_dir() else source.parent)

            def work(pairs: Pairs, progress: Progress) -> Rows:
                rows = fill_pictures(
                    model, pairs, masks, asked.fill, white=white, progress=progress
                )
                return marked_rows(rows, card.missed)

            done = fill_folder(source, out, work, whole=sequence)
        facts = {"model": card.uri, "weights_sha256": card.weights_sha256}
        return facts | card.gate_facts() | done

    return in_flow("ldct-fill", body)


def fill_volumes(
    model: Generative,
    card: ModelCard,
    source: Path,
    to: Export,
    *,
    wanted: FillRequest,
    intake: IngestOptions,
) -> Json:
    """Series with lost slices are let in for those slices alone: their owner asked for it."""
    if wanted.region == MISSING:
        intake = intake.model_copy(update={"gaps": "slices"})

    def start(item: Source, key: str, folder: Path) -> Callable[[], Exported]:
        own = replace(to, folder=folder)

        def fill() -> Exported:
            with StageProgress(f"fill {key}", unit="slices") as stage:
                exported = export_filled(model, card, item, own, wanted, stage.advance)
            return exported.marked(card.missed)

        return fill

    suffix = f"{wanted.name}-{card.slug}"
    return each_volume(source, to.folder, intake, start, suffix=suffix)


def fill_folder(
    source: Path, out: Path, work: Callable[[Pairs, Progress], Rows], *, whole: bool
) -> Json:
    """Pictures one by one, or the whole folder as a sequence; goes on past bad ones."""
    pairs = targets(source, out)
    groups = [pairs] if whole else [[pair] for pair in pairs]
    batch = pictures_batch(pairs, source, out)
    with StageProgress("fill pictures", unit="pictures", total=len(pairs)) as stage:
        for group in groups:
            items = [item_of(to, out) for _, to in group]
            with batch.together(items, [path for path, _ in group]):
                rows = work(group, stage.advance)
                batch.exported += [item | row for item, row in zip(items, rows, strict=True)]
    return pictures_report(batch, source)
