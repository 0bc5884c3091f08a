"""A generative model on held-back images: what it keeps of them, and what it draws beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pipeline.config.component import build
from pipeline.config.task_runs import GenerateRun
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.types import Progress
from pipeline.core.units import Window
from pipeline.data.images import StoredSlices, labels_of
from pipeline.degradations.base import Degradation
from pipeline.evaluation.latent import (
    Likeness,
    LowerBound,
    lower_bound,
    pca_reconstruction,
    reconstruction_figures,
)
from pipeline.evaluation.samples import SampleFigures, sample_figures
from pipeline.generative import latent
from pipeline.generative.codec import Codec
from pipeline.inference.denoise import apply_model
from pipeline.metrics.perceptual import ms_ssim
from pipeline.models.adapters.generative import Generative
from pipeline.models.vae import VAE
from pipeline.store.published_splits import TRAIN
from pipeline.store.store import Store

#: Training images that samples, and principal components, are compared with.
COMPARED = 2000
#: In a network at once: four slices of 512 x 512.
MAX_BATCH_PIXELS = 2**20

Images = list[NDArray[np.float32]]


class ImageFigures(Likeness):
    """Likeness in a window of this centre and width."""

    centre: float
    width: float


class PcaFigures(Likeness):
    """Likeness of images from principal components, in the window of this name."""

    window: str


class FileFigures(JsonRecord):
    """Compressed files: bits per pixel and mean bytes, MS-SSIM of what they expand to, and the
    share whose codes come back exactly."""

    ms_ssim: Figure
    bits_per_pixel: float
    bytes: float
    decoded_exactly: float


class GenerationOverall(JsonRecord):
    """Means over images of whatever the model can do; what it cannot is left out.

    windows: of reconstructions, by window; corrupted and restored: of a denoising autoencoder.
    codes: numbers in a code, with as many components as pca has. active_latents: of them, those
    that vary with the image.
    """

    images: int = 0
    aggregation: str = ""
    windows: dict[str, ImageFigures] = Field(default_factory=dict)
    corrupted: dict[str, ImageFigures] = Field(default_factory=dict)
    restored: dict[str, ImageFigures] = Field(default_factory=dict)
    codes: int | None = None
    pca: PcaFigures | None = None
    bound: LowerBound | None = None
    active_latents: int | None = None
    files: FileFigures | None = None
    samples: SampleFigures | None = None


class GenerationPatient(JsonRecord):
    """How many slices (or pictures) of a patient, and their reconstructions' figures."""

    slices: int
    windows: dict[str, ImageFigures] = Field(default_factory=dict)


class GenerationResult(JsonRecord):
    """Figures of a generative model over images, and of each patient's."""

    overall: GenerationOverall
    patients: dict[str, GenerationPatient]


def stored_images(
    store: Store, keys: Sequence[str], config: GenerateRun
) -> tuple[StoredSlices, NDArray[np.int64]]:
    """Images of stored series as the run sees them, and their labels."""
    settings = config.generation
    images = StoredSlices(store, keys, settings.image_size, clip=settings.clip)
    return images, labels_of(images, settings.label)


def training_keys(store: Store) -> list[str]:
    """Series of the patients whom the store knows on the training side."""
    sides = store.split()
    records = sorted(store.records().items())
    return [key for key, record in records if sides.get(record.patient) == TRAIN]


def evaluate_generation(
    model: Generative,
    store: Store,
    keys: Sequence[str],
    config: GenerateRun,
    progress: Progress = lambda slices: None,
) -> GenerationResult:
    """Whatever the model can do, measured on series it has not seen.

    Reconstruction (PSNR and SSIM in each window, beside PCA with as many components), the
    evidence lower bound, the file size of a coder, and samples against held-back images. Means
    over images. Samples need the store's training side.
    """
    images, labels = stored_images(store, keys, config)
    truth = [images[number] for number in range(len(images))]
    patients = {
        patient: GenerationPatient(slices=images.patients.count(patient))
        for patient in images.patients
    }
    overall: dict[str, object] = {"images": len(truth), "aggregation": "mean over images"}
    if model.encodes:
        output = reconstructions(model, truth, labels, progress)
        overall["windows"] = in_windows(output, truth, config)
        overall |= _denoising(model, truth, labels, config)
        for patient, found in patients.items():
            own = [number for number, of in enumerate(images.patients) if of == patient]
            windows = in_windows([output[n] for n in own], [truth[n] for n in own], config)
            patients[patient] = GenerationPatient(slices=found.slices, windows=windows)
    training, their_labels = _training_images(store, config)
    overall |= _of_codes(model, truth, labels, training, config)
    from pipeline.models.vqvae import VQVAE  # MONAI takes seconds to import

    if isinstance(model.network, VQVAE):
        overall["files"] = file_figures(model, truth, config.first_window[1])
    if model.has_prior:
        overall["samples"] = sample_figures(model, training, their_labels, truth, config)
    return GenerationResult(
        overall=GenerationOverall.model_validate(overall),
        patients=patients,
    )


def _training_images(store: Store, config: GenerateRun) -> tuple[Images, NDArray[np.int64]]:
    """COMPARED images of the training side at most, and their labels."""
    images, labels = stored_images(store, training_keys(store), config)
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:COMPARED])
    return [images[number] for number in chosen.tolist()], labels[chosen]


def reconstructions(
    model: Generative,
    images: Images,
    labels: NDArray[np.int64],
    progress: Progress = lambda slices: None,
) -> Images:
    """Each image through the network and back, without randomness."""
    if model.labels:
        stacked = torch.from_numpy(np.stack(images))[:, None]
        progress(len(images))
        return list(latent.reconstruct(model, stacked, torch.from_numpy(labels))[:, 0].numpy())
    if len({image.shape for image in images}) > 1:
        return [apply_model(model, image[None], progress=progress)[0] for image in images]
    batch = max(1, min(64, MAX_BATCH_PIXELS // images[0].size))
    return list(apply_model(model, np.stack(images), batch=batch, progress=progress))


def _denoising(
    model: Generative, truth: Images, labels: NDArray[np.int64], config: GenerateRun
) -> dict[str, dict[str, ImageFigures]]:
    """What a denoising autoencoder makes of images that its degradation has degraded."""
    if config.degradation is None:
        return {}
    degradation: Degradation = build(config.degradation, key="degradation", base=Degradation)
    generator = np.random.default_rng(config.train.seed)
    degraded = [degradation.degrade(image, generator) for image in truth]
    restored = reconstructions(model, degraded, labels)
    return {
        "corrupted": in_windows(degraded, truth, config),
        "restored": in_windows(restored, truth, config),
    }


def in_windows(output: Images, target: Images, config: GenerateRun) -> dict[str, ImageFigures]:
    """PSNR and SSIM in each window, by its name; output and target are equally many."""
    found = {}
    for name, window in config.windows.items():
        likeness = reconstruction_figures(output, target, window)
        found[name] = ImageFigures(
            centre=window.centre, width=window.width, psnr=likeness.psnr, ssim=likeness.ssim
        )
    return found


def _of_codes(
    model: Generative,
    truth: Images,
    labels: NDArray[np.int64],
    training: Images,
    config: GenerateRun,
) -> dict[str, object]:
    """The bound of a variational autoencoder, and PCA with as many components as a code has."""
    shape = getattr(model.network, "latent_shape", None)
    if shape is None or not model.encodes:
        return {}
    components = math.prod(shape)
    found: dict[str, object] = {"codes": components}
    if components <= min(len(training), truth[0].size):
        name, window = config.first_window
        flat = pca_reconstruction(np.stack(training), np.stack(truth), components)
        likeness = reconstruction_figures(list(flat), truth, window)
        found["pca"] = PcaFigures(window=name, psnr=likeness.psnr, ssim=likeness.ssim)
    if isinstance(model.network, VAE):
        batch = torch.from_numpy(np.stack(truth))[:, None]
        conditions = torch.from_numpy(labels) if model.labels else None
        generator = torch.Generator().manual_seed(config.train.seed)
        found["bound"] = lower_bound(model, batch, generator, labels=conditions)
        found["active_latents"] = latent.latent_use(model, batch, conditions).active()
    return found


def file_figures(model: Generative, images: Images, window: Window) -> FileFigures:
    """Of each image as a compressed file, and back; MS-SSIM in `window`."""
    codec = Codec(model)
    files = [codec.compress(image) for image in images]
    pixels = sum(image.size for image in images)
    expanded = [codec.expand(file) for file in files]
    exact = [
        np.array_equal(back, codec.image(codec.codes(image), image.shape))
        for image, back in zip(images, expanded, strict=True)
    ]
    likeness = [ms_ssim(back, image, window) for image, back in zip(images, expanded, strict=True)]
    return FileFigures(
        ms_ssim=float(np.mean(likeness)),
        bits_per_pixel=8 * sum(map(len, files)) / pixels,
        bytes=float(np.mean([len(file) for file in files])),
        decoded_exactly=float(np.mean(exact)),
    )


def first_window(config: GenerateRun) -> tuple[str, Window]:
    """The name and place of the window that a run names first, by which it is judged."""
    return next(iter(config.windows.items()))
