"""CT slices that were measured badly: few views, a short arc, metal, uneven detector cells.

Only what a measurement lacks or adds is reconstructed and added to the slice, so that the image
keeps its own resolution and kernel, as in pipeline.physics.lowdose. In HU; pixels outside the
field of view stay as they are.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from pipeline.core.types import Picture
from pipeline.core.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.core.volume import Volume
from pipeline.degradations.base import Degradation, Operator, Shape
from pipeline.physics.fan_beam import adjoint_project, filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import FanBeam

SpacingMm = tuple[float, float]
#: Softer than the bare ramp, near a clinical standard kernel (fan_beam.filtered_backprojection).
CUTOFF = 1.2


class Measurement(Degradation):
    """An error of a fan-beam scan with `views` of `detectors` cells."""

    reach = None

    def __init__(self, *, detectors: int = 736, views: int = 720) -> None:
        self.geometry = FanBeam(detectors, views)

    def __call__(self, volume: Volume, generator: np.random.Generator) -> Picture:
        image_hu = np.asarray(volume.image_hu, dtype=np.float32)
        error_hu = self._error_hu(image_hu, volume.spacing_mm[1:], generator)
        return image_hu + error_hu * volume.valid

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """As `__call__`, for [slices, rows, columns] that fill the field of view."""
        side_mm = 2 * self.geometry.field_of_view_radius_mm / math.hypot(*image.shape[-2:])
        return image + self._error_hu(image, (side_mm, side_mm), generator)

    @abstractmethod
    def _error_hu(
        self, image_hu: Picture, spacing_mm: SpacingMm, generator: np.random.Generator
    ) -> Picture:
        """What to add to image_hu [slices, rows, columns]."""

    def _projected(self, mu_per_mm: Picture, spacing_mm: SpacingMm) -> Picture:
        return forward_project(mu_per_mm, spacing_mm=spacing_mm, geometry=self.geometry)

    def _reconstructed_hu(
        self, sinogram: Picture, size: tuple[int, int], spacing_mm: SpacingMm, geometry: FanBeam
    ) -> Picture:
        found = filtered_backprojection(
            sinogram, shape=size, spacing_mm=spacing_mm, geometry=geometry, cutoff=CUTOFF
        )
        return mu_per_mm_to_hu_difference(found)


class MissingViews(Measurement):
    """Some of the views were never measured."""

    @abstractmethod
    def measured(self) -> NDArray[np.bool_]:
        """Which views were measured [views]."""

    def operator(self, shape: Shape, spacing_mm: SpacingMm) -> Operator:
        """From attenuation per mm [slices, rows, columns] to the line integrals of the measured
        views [slices, measured views, detectors], and the transpose."""
        measured, geometry = self.measured(), self.geometry

        def adjoint(sinogram: Picture) -> Picture:
            whole = np.zeros((len(sinogram), geometry.views, geometry.detectors), np.float32)
            whole[:, measured] = sinogram
            size = (shape[-2], shape[-1])
            return adjoint_project(whole, shape=size, spacing_mm=spacing_mm, geometry=geometry)

        return Operator(
            lambda image: self._projected(image, spacing_mm)[:, measured],
            adjoint,
            (shape[0], int(measured.sum()), geometry.detectors),
        )

    def _error_hu(
        self, image_hu: Picture, spacing_mm: SpacingMm, generator: np.random.Generator
    ) -> Picture:
        measured = self.measured()
        sinogram = self._projected(hu_to_mu_per_mm(image_hu), spacing_mm)
        # The measured views get more weight, so that the mean stays: FBP of these less FBP of
        # all views.
        weight = np.where(measured, self._share_of_missing(measured), 0).astype(np.float32)
        difference = sinogram * (weight - 1)[:, None]
        size = (image_hu.shape[1], image_hu.shape[2])
        return self._reconstructed_hu(difference, size, spacing_mm, self.geometry)

    def _share_of_missing(self, measured: NDArray[np.bool_]) -> float:
        """The weight of a measured view in the reconstruction."""
        return len(measured) / measured.sum()


class SparseView(MissingViews):
    """Every n-th view: `keep` views on the whole circle, which must divide `views`."""

    def __init__(self, keep: int, *, detectors: int = 736, views: int = 720) -> None:
        super().__init__(detectors=detectors, views=views)
        if not 1 <= keep <= views or views % keep:
            raise ValueError(f"keep must divide the {views} views, got {keep}")
        self.keep = keep

    def measured(self) -> NDArray[np.bool_]:
        """True for every (views / keep)-th view [views]."""
        return np.arange(self.geometry.views) % (self.geometry.views // self.keep) == 0


class LimitedAngle(MissingViews):
    """The first `arc_degrees` of the circle, which count for the opposite views too."""

    def __init__(self, arc_degrees: float, *, detectors: int = 736, views: int = 720) -> None:
        super().__init__(detectors=detectors, views=views)
        if not 0 < arc_degrees < 360:
            raise ValueError(f"arc_degrees must lie in (0, 360), got {arc_degrees}")
        self.arc_degrees = arc_degrees

    def measured(self) -> NDArray[np.bool_]:
        """True for the views below `arc_degrees` [views]."""
        views = self.geometry.views
        return np.arange(views) * 360 < self.arc_degrees * views

    def _share_of_missing(self, measured: NDArray[np.bool_]) -> float:
        # A full scan measures each ray twice, from opposite sides.
        return min(2.0, len(measured) / measured.sum())


class MetalStreaks(Measurement):
    """Pieces of metal, which harden the beam and let hardly a photon through.

    Up to `pieces` disks of 2 to `radius_mm` within the body. A ray's integral through metal p is
    measured as p / (1 + hardening p), and no ray as more than `most`: the photons end there.
    """

    def __init__(
        self,
        *,
        pieces: int = 2,
        radius_mm: float = 6.0,
        mu_per_mm: float = 0.3,
        hardening: float = 0.08,
        most: float = 8.0,
        detectors: int = 736,
        views: int = 720,
    ) -> None:
        super().__init__(detectors=detectors, views=views)
        if pieces < 1 or not radius_mm > 2:
            raise ValueError(f"expected pieces of more than 2 mm, got {pieces} of {radius_mm}")
        self.pieces, self.radius_mm, self.mu_per_mm = pieces, radius_mm, mu_per_mm
        self.hardening, self.most = hardening, most

    def _error_hu(
        self, image_hu: Picture, spacing_mm: SpacingMm, generator: np.random.Generator
    ) -> Picture:
        metal = np.stack([self._metal(one, spacing_mm, generator) for one in image_hu])
        mu_per_mm = hu_to_mu_per_mm(image_hu)
        # Metal takes the place of tissue.
        replaced = (metal * (self.mu_per_mm - mu_per_mm)).astype(np.float32)
        added = self._projected(replaced, spacing_mm)
        tissue = self._projected(mu_per_mm, spacing_mm)
        measured = np.minimum(tissue + added / (1 + self.hardening * added.clip(0)), self.most)
        size = (image_hu.shape[1], image_hu.shape[2])
        return self._reconstructed_hu(measured - tissue, size, spacing_mm, self.geometry)

    def _metal(
        self, image_hu: Picture, spacing_mm: SpacingMm, generator: np.random.Generator
    ) -> Picture:
        """1 in the metal, centred anywhere in the body."""
        body = np.argwhere(image_hu > -200)
        rows, columns = np.ogrid[: image_hu.shape[0], : image_hu.shape[1]]
        metal = np.zeros(image_hu.shape, dtype=np.float32)
        for _ in range(int(generator.integers(1, self.pieces + 1)) if len(body) else 0):
            row, column = body[generator.integers(len(body))]
            radius_mm = generator.uniform(2, self.radius_mm)
            distance_mm = np.hypot((rows - row) * spacing_mm[0], (columns - column) * spacing_mm[1])
            metal[distance_mm <= radius_mm] = 1
        return metal


class Rings(Measurement):
    """Detector cells that read wrong by a constant of standard deviation `error`, of which a
    share is affected; without unit, as line integrals are."""

    def __init__(
        self, error: float = 0.01, *, share: float = 0.2, detectors: int = 736, views: int = 720
    ) -> None:
        super().__init__(detectors=detectors, views=views)
        if error < 0 or not 0 < share <= 1:
            raise ValueError(f"expected an error and a share of cells, got {error} and {share}")
        self.error, self.share = error, share

    def _error_hu(
        self, image_hu: Picture, spacing_mm: SpacingMm, generator: np.random.Generator
    ) -> Picture:
        cells = (len(image_hu), 1, self.geometry.detectors)
        wrong = generator.normal(0, self.error, cells) * (generator.random(cells) < self.share)
        sinogram = np.repeat(wrong.astype(np.float32), self.geometry.views, axis=1)
        size = (image_hu.shape[1], image_hu.shape[2])
        return self._reconstructed_hu(sinogram, size, spacing_mm, self.geometry)
