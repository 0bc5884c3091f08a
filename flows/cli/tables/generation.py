"""The closing table of a generative run's figures, for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from flows.cli.tables.figures import number, out_console
from pipeline.core.types import Json


def generation_table(figures: Json) -> None:
    """What the model keeps of held-back images, and what its samples are like."""
    overall = figures["overall"]
    table = Table(title=f"{overall['images']} held-back images; {overall['aggregation']}")
    table.add_column("")
    table.add_column("", justify="right")
    for name, figure in _rows(overall):
        table.add_row(name, figure)
    out_console.print(table)


def _rows(overall: Json) -> Iterator[tuple[str, str]]:
    for name, window in overall.get("windows", {}).items():
        place = f"reconstruction, {name} ({window['centre']:g}/{window['width']:g})"
        yield place, f"{number(window['psnr'], 2)} dB, SSIM {number(window['ssim'], 3)}"
    for name, window in overall.get("restored", {}).items():
        before = overall["corrupted"][name]["psnr"]
        yield f"corrupted, {name}", f"{number(before, 2)} dB → {number(window['psnr'], 2)} dB"
    if pca := overall.get("pca"):
        yield f"PCA with {overall['codes']} components, {pca['window']}", f"{pca['psnr']:.2f} dB"
    if bound := overall.get("bound"):
        yield "bound", f"{bound['bits_per_dim']:.2f} bits a pixel, KL {bound['kl']:.1f} nats"
        yield "active latents", f"{overall['active_latents']} of {overall['codes']}"
    if files := overall.get("files"):
        yield (
            "files",
            f"{files['bits_per_pixel']:.4f} bits a pixel, MS-SSIM {number(files['ms_ssim'], 4)}",
        )
    for name, figure in overall.get("samples", {}).items():
        text = str(figure) if isinstance(figure, int) else number(figure, 4)
        yield f"samples: {name.replace('_', ' ')}", text
