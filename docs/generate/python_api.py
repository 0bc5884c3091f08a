"""The reference of Python functions: which of them are meant for others' programs. mkdocstrings
fills in signatures and descriptions from the source, without importing it."""

from __future__ import annotations

HEAD = """# Python functions

What other programs may build on; [from Python](../python.md) has examples that run. Those of the
first section are called by `import ldct`: `ldct.read`. The rest of `pipeline` and `flows` may
change from one version to the next.
"""
#: Functions and types by what they are for.
PUBLIC = {
    "The package ldct": (
        "ldct.series.read",
        "ldct.series.find",
        "ldct.series.from_array",
        "ldct.series.CTSeries",
        "ldct.processing.simulate",
        "ldct.processing.denoise",
        "ldct.segmentation.segment",
        "ldct.segmentation.Segmentation",
        "ldct.processing.evaluate",
        "ldct.processing.load_model",
        "ldct.files.write_derived",
        "ldct.files.ingest",
    ),
    "Reading": (
        "pipeline.io.discover.discover",
        "pipeline.io.discover.Discovered",
        "pipeline.dicom.read.volume.read_volume",
        "pipeline.core.volume.Volume",
        "pipeline.core.refusals.Refusal",
    ),
    "Low dose": ("pipeline.physics.lowdose.LowDoseCT",),
    "Models": (
        "flows.tracking.references.load_named",
        "pipeline.models.adapters.pretrained.load_pretrained",
        "pipeline.inference.denoise.apply_model",
    ),
    "Figures": (
        "pipeline.metrics.conventions.convention",
        "pipeline.metrics.conventions.Convention",
        "pipeline.metrics.image.psnr_db",
        "pipeline.metrics.image.ssim",
        "pipeline.metrics.image.rmse_hu",
        "pipeline.metrics.image.tissue_masks",
        "pipeline.metrics.perceptual.vif",
        "pipeline.quality.nps.noise_power",
        "pipeline.quality.nps.NoisePower",
    ),
    "Configuration": (
        "pipeline.config.load.load_config",
        "pipeline.config.load.parse_config",
        "pipeline.config.run.RunConfig",
    ),
    "Errors": (
        "pipeline.core.errors.LdctError",
        "pipeline.core.errors.ConfigError",
        "pipeline.core.errors.NothingUsableError",
    ),
}


def python_pages() -> dict[str, str]:
    """The page, by its place."""
    parts = [HEAD]
    for purpose, names in PUBLIC.items():
        parts.append(f"## {purpose}\n")
        parts += [f"::: {name}\n" for name in names]
    return {"reference/python.md": "\n".join(parts)}
