"""`ldct compress` and `ldct expand`: every picture or CT volume below a source."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from flows.pictures import item_of, pictures_batch
from flows.runtime.batch import Batch
from flows.runtime.progress import StageProgress
from flows.tracking.references import load_named
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.folder_walk import FolderWalk
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import Refusal, nothing_usable
from pipeline.core.types import Json
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.compressed import (
    Compressor,
    compress_picture,
    compress_volume,
    expand_file,
)
from pipeline.export.output_record import OutputRecord
from pipeline.export.pictures import targets
from pipeline.generative.compressed_file import SUFFIX
from pipeline.io.discover import discover, files_of, source_key


def compress_files(
    reference: str,
    source: Path,
    out: Path,
    *,
    intake: IngestOptions,
    stages: int | None = None,
) -> Json:
    """Write OUT/NAME.ldctvq for every grey picture, or CT volume, that the model is for.

    stages: how many of the model's a file holds; all by default. Goes on past bad ones; writes
    OUT/report.json. Raises ConfigError where the model has fewer stages, NothingUsableError where
    there is no image, and LdctError where no file could be written.
    """
    compressor = Compressor.of(load_named(reference))
    compressor.require_stages(stages)
    if compressor.takes_ct:
        batch = _volumes(compressor, source, out, intake, stages)
    else:
        batch = _pictures(compressor, source, out, stages)
    report = {"model": compressor.card.uri, **batch.to_dict()}
    batch.require_exported("files")
    if not batch.exported:
        raise nothing_usable(batch.root, batch.refusals, report)
    return report


def _pictures(compressor: Compressor, source: Path, out: Path, stages: int | None) -> Batch:
    left_out: list[Refusal] = []
    pairs = [(path, _compressed(to)) for path, to in targets(source, out, left_out)]
    batch = pictures_batch(pairs, source, out)
    batch.refusals += left_out
    with StageProgress("compress pictures", unit="pictures", total=len(pairs)) as stage:
        for path, to in pairs:
            item = item_of(to, out)
            with batch.together([item], [path]):
                to.parent.mkdir(parents=True, exist_ok=True)
                row = compress_picture(compressor, path, to, stages=stages)
                batch.exported.append({**item, **row})
            stage.advance(1)
    return batch


def _volumes(
    compressor: Compressor, source: Path, out: Path, intake: IngestOptions, stages: int | None
) -> Batch:
    found, key = discover(source, intake=intake), installation_key()
    named = [(volume, source_key(volume, key)) for volume in found.sources]
    items = [{"file": f"{name}{SUFFIX}", "series": name} for _, name in named]
    batch = Batch(OutputRecord(out, source), found.root, list(items), list(found.refusals))
    with StageProgress("compress CT", unit="series", total=len(named)) as stage:
        for (volume, _), item in zip(named, items, strict=True):
            with batch.together([item], files_of(volume)):
                to = out / item["file"]
                row, refusals = compress_volume(
                    compressor, volume, to, air=intake.air, stages=stages
                )
                batch.refusals += refusals
                batch.exported.append({**item, **row})
            stage.advance(1)
    return batch


def _compressed(target: Path) -> Path:
    return target.with_name(target.name + SUFFIX)


def expand_files(
    source: Path, out: Path, *, reference: str = "", stages: int | None = None
) -> Json:
    """Write the picture or CT volume of every compressed file below a source.

    reference: the model, in place of the one that each file names. stages: how many of a file's are
    read; all by default. Raises as compress_files does.
    """
    folder = source if source.is_dir() else source.parent
    if folder.resolve() == out.resolve():
        raise ConfigError(f"--out {out} is the folder of the files: choose another one")
    left_out: list[Refusal] = []
    walk = FolderWalk(source, "", left_out.append)
    files = [source] if source.is_file() else list(walk.files())
    paths = sorted(path for path in files if path.name.endswith(SUFFIX))
    named = {path: str(path.relative_to(folder)) for path in paths}
    items = [{"file": name} for name in named.values()]
    batch = Batch(OutputRecord(out, source), folder, items, left_out)

    @cache
    def find(model: str) -> Compressor:
        return Compressor.of(load_named(reference or model))

    with StageProgress("expand", unit="files", total=len(paths)) as stage:
        for path, name in named.items():
            with batch.together([{"file": name}], [path]):
                place = (out / name).parent
                place.mkdir(parents=True, exist_ok=True)
                done = expand_file(find, path, place, stages=stages)
                written = str((place / done["written"]).relative_to(out))
                batch.exported.append({**done, "file": written, "source_file": name})
            stage.advance(1)
    batch.require_exported("files")
    if not batch.exported:
        raise NothingUsableError(f"no {SUFFIX} file in {source}", batch.to_dict())
    return batch.to_dict()
