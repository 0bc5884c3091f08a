"""The figures of benchmarks/generative.py as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Figures = dict[str, Any]
#: Coders that a book of codes is compared with.
OTHERS = ("JPEG", "JPEG 2000", "WebP", "AVIF")


def compression_table(figures: Figures) -> list[str]:
    lines = [
        "Bits a pixel of real files, header included, and what they expand to; 8-bit grey, CT in",
        "window 40/400. Means over the held-back images; JPEG is progressive and optimised.",
    ]
    if "photographs" in figures:
        lines += ["Photographs held back: coffee, coins, camera and astronaut of scikit-image."]
    for kind, curves in figures.items():
        lines += ["", f"| {kind} | bits a pixel | MS-SSIM | PSNR dB | CPU s to train |"]
        lines += ["|---|---|---|---|---|"]
        for name, points in curves.items():
            for row in points:
                seconds = f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""
                lines.append(
                    f"| {_with_stages(name, row)} | {row['bits_per_pixel']:.4f} "
                    f"| {row['ms_ssim']:.4f} | {row['psnr_db']:.2f} | {seconds} |"
                )
    lines += [*_beside(figures)]
    if not any("zlib" in row for curves in figures.values() for row, *_ in curves.values()):
        return lines
    lines += ["", "The same codes by other coders, bits a pixel:", ""]
    lines += [
        "| | this codec | entropy of single codes | zlib | LZMA | 8 bits a code |",
        "|---|---|---|---|---|---|",
    ]
    for kind, curves in figures.items():
        for name, (row, *_) in curves.items():
            if "zlib" in row:
                lines.append(
                    f"| {kind}, {name} | {row['bits_per_pixel']:.4f} "
                    f"| {row['entropy_of_single_codes']:.4f} | {row['zlib']:.4f} "
                    f"| {row['lzma']:.4f} | {row['eight_bits_a_code']:.4f} |"
                )
    return lines


def _beside(figures: Figures) -> list[str]:
    """How many more or fewer bytes than the other coders at equal MS-SSIM."""
    lines = [
        "",
        "Bytes of the VQ-VAE's files less those of the other coder's at equal MS-SSIM, as a share",
        "of these, on a line between its two nearest files. `beyond`: the other coder has no",
        "file as bad, or as good.",
        "",
        "| | " + " | ".join(OTHERS) + " |",
        "|---|" + "---|" * len(OTHERS),
    ]
    for kind, curves in figures.items():
        for name, points in curves.items():
            for row in points if name not in OTHERS else ():
                cells = [_share(row, row.get(f"{other}_bits_at_equal_ms_ssim")) for other in OTHERS]
                lines.append(f"| {kind}, {_with_stages(name, row)} | " + " | ".join(cells) + " |")
    return lines


def _with_stages(name: str, row: dict[str, float]) -> str:
    return f"{name}, {row['stages']} read" if "stages" in row else name


def _share(row: dict[str, float], bits: float | None) -> str:
    return "beyond" if bits is None else f"{row['bits_per_pixel'] / bits - 1:+.0%}"


def denoise_table(figures: Figures) -> list[str]:
    lines = [
        "25 % dose, window 40/400, the 51 slices of abdomen-ge-crlm1006; noise in a scanned",
        "water phantom of 200 mm, whose full dose has "
        f"{figures['undenoised phantom']['full_dose_noise_hu']:.1f} HU. Shifts of the noise",
        "spectrum's peak and mean frequency are shares of full dose's.",
        "",
        "| | PSNR dB | SSIM | RMSE HU | bias in soft tissue HU | noise HU | peak shift "
        "| mean frequency shift | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        phantom = row.get("phantom", row)
        texture = (
            f"{phantom['noise_hu']:.1f} | {phantom['peak_shift']:+.0%} "
            f"| {phantom['mean_frequency_shift']:+.0%}"
        )
        if "patient" not in row:
            lines.append(f"| {name} | | | | | {texture} | |")
            continue
        output = row["patient"]["windows"]["soft_tissue"]["output"]
        bias = row["patient"]["hu_bias"]["output"]["soft_tissue"]
        lines.append(
            f"| {name} | {output['psnr']:.2f} | {output['ssim']:.4f} | {output['rmse_hu']:.1f} "
            f"| {bias:+.2f} | {texture} | {row.get('cpu_seconds', 0):.0f} |"
        )
    return lines


TABLES: dict[str, Callable[[Figures], list[str]]] = {
    "compression": compression_table,
    "denoise": denoise_table,
}
