"""From stored series to training pairs: the split by patient, and patches by number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.config.component import build
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import DenoiseRun
from pipeline.config.transforms import Transforms
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.masks import body_mask, bounding_box
from pipeline.data.nested import NestedPairs
from pipeline.data.transforms import draw_seed, plain_tensors, training_transforms, transformed
from pipeline.degradations.digest import degradation_digest
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.store import Store

if TYPE_CHECKING:  # MONAI takes seconds to import
    from monai.transforms import MapTransform


@dataclass(frozen=True)
class _Slice:
    """A slice's target, its noise draws, where to cut patches, and the slices beside it."""

    patient: str
    target: NDArray[np.float32]
    inputs: tuple[NDArray[np.float32], ...]
    box: tuple[slice, slice]
    beside: tuple[_Slice, ...] = ()


class PatchPairs(Dataset):
    """`length` random pairs {"input", "target"}, float32 [1, rows, columns] in HU.

    Item i is a function of the seed and i alone: workers, restarts and machines all see the
    same patches. Slices are drawn uniformly, patches within the body's bounding box; slices
    without a body are left out. `data.sampling` and `data.region` may say otherwise. Where
    `data.partner` asks for it, an item has a second noisy image, "partner", of the same place:
    another noise draw, or a slice beside it. With `data.nested` an item is one image at two
    doses, with "dose_ratio" [1], how many times the input's dose the target's is.
    """

    def __init__(self, store: Store, keys: list[str], config: RunConfig, length: int) -> None:
        self.length = length
        self.seed = config.train.seed
        self.nested = _nested(config)
        # An item of two doses needs two draws, cut and turned alike.
        self.partner = "draw" if self.nested else config.data.partner
        self.size = _size_cut(config.data.patch, self.nested)
        named = _named(config)
        cut = config.data.model_copy(update={"patch": self.size})
        self.transforms = training_transforms(cut, named)
        self.slices = [found for key in keys for found in _slices(store, key, config, self.size)]
        if self.slices and self.partner == "neighbour":
            self.slices = [found for found in self.slices if found.beside]
            if not self.slices:
                raise NothingUsableError("data.partner: no training series has two slices")
        if not self.slices:
            raise NothingUsableError("no slice of the training series shows a body")
        self.by_patient: list[list[_Slice]] = []
        if config.data.sampling == "patients":
            patients = dict.fromkeys(found.patient for found in self.slices)
            self.by_patient = [[f for f in self.slices if f.patient == p] for p in patients]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        if not 0 <= item < self.length:
            raise IndexError(item)
        generator = np.random.default_rng((self.seed, item))
        slices = self.slices
        if self.by_patient:
            slices = self.by_patient[generator.integers(len(self.by_patient))]
        chosen = slices[generator.integers(len(slices))]
        draw = int(generator.integers(len(chosen.inputs)))
        seed = draw_seed(generator)
        shown = [(chosen.inputs[draw], chosen.target)]
        if self.partner != "none":
            shown.append(self._partner(chosen, draw, generator))
        # As channels of one image, so that a partner is cut, turned and scaled like its input.
        degraded, target = (
            torch.from_numpy(np.stack([i[chosen.box] for i in both]).astype(np.float32))
            for both in zip(*shown, strict=True)
        )
        pair = transformed(self.transforms, {"input": degraded, "target": target}, seed=seed)
        if self.nested:
            return _of_two_doses(self.nested, pair, generator)
        images = {"input": pair["input"][:1], "target": pair["target"][:1]}
        if self.partner != "none":
            images["partner"] = pair["input"][1:]
        return {name: values.contiguous() for name, values in images.items()}

    def _partner(
        self, chosen: _Slice, draw: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The second noisy image of a slice, and the target that its noise was added to."""
        if self.partner == "draw":
            others = [image for n, image in enumerate(chosen.inputs) if n != draw]
            return others[generator.integers(len(others))], chosen.target
        beside = chosen.beside[generator.integers(len(chosen.beside))]
        return beside.inputs[draw], beside.target


def _named(config: RunConfig) -> list[MapTransform]:
    """The transforms that a run names."""
    if not isinstance(config, DenoiseRun):
        return []
    from pipeline.data.monai_transforms import named_transforms  # MONAI takes seconds to import

    return named_transforms(config.transforms)


def _nested(config: RunConfig) -> NestedPairs | None:
    """What makes pairs of two doses, where the run asks for them; ConfigError where the run's
    degradation is none of dose."""
    if config.data.nested is None:
        return None
    degradation = config.degradation and build(config.degradation, key="degradation", base=object)
    if not isinstance(degradation, LowDoseCT) or degradation.dose_fraction == 1:
        raise ConfigError("data.nested: needs the degradation low_dose_ct at a dose below 1")
    return NestedPairs(config.data.nested, degradation.dose_fraction)


def _size_cut(patch: tuple[int, int], nested: NestedPairs | None) -> tuple[int, int]:
    """Rows and columns that are cut out of a slice for an item of `patch`."""
    margin = nested.margin if nested else 0
    return patch[0] + 2 * margin, patch[1] + 2 * margin


def _of_two_doses(
    nested: NestedPairs, pair: dict[str, torch.Tensor], generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """An item of what was cut: two draws in "input", the image twice in "target"."""
    first, second = pair["input"].numpy()
    made = nested.pair(pair["target"][0].numpy(), (first, second), generator)
    return {
        "input": torch.from_numpy(made.input[None].copy()),
        "target": torch.from_numpy(made.target[None].copy()),
        "dose_ratio": torch.tensor(made.dose_ratio, dtype=torch.float32),
    }


def _in_memory(slices: list[_Slice], settings: Transforms) -> list[_Slice]:
    """Slices after the transforms of `transforms.slices`, kept by MONAI's CacheDataset."""
    from monai.data import CacheDataset
    from monai.transforms import Compose

    from pipeline.data.monai_transforms import named_transforms

    items = [
        {
            "input": torch.from_numpy(np.stack(one.inputs).astype(np.float32)),
            "target": torch.from_numpy(np.array(one.target[None], dtype=np.float32)),
        }
        for one in slices
    ]
    transforms = Compose(named_transforms(settings, "slices"))
    with plain_tensors():
        kept = CacheDataset(items, transforms, num_workers=1, progress=False)
        return [
            replace(one, inputs=tuple(item["input"].numpy()), target=item["target"][0].numpy())
            for one, item in zip(slices, kept, strict=True)
        ]


def _on_disk(
    found: dict[int, _Slice], store: Store, key: str, transforms: Transforms, draws: list[str]
) -> list[_Slice]:
    """As _in_memory, kept in the store by what they are made of, and memory-mapped.

    draws: the digests of the degraded inputs. MONAI's PersistentDataset is not used: it reads whole
    slices for each patch, from files that are pickles, and moves them there from the system's
    temporary folder, which leaves halves of them where that is another disk and the process ends.
    """
    made_of = [transforms.slices, version("monai"), store.record(key).digest, draws, list(found)]
    names = [digest([*made_of, what]) for what in ("target", *draws)]
    if not all(store.degraded_path(key, name).exists() for name in names):
        made = _in_memory(list(found.values()), transforms)
        images = [[one.target for one in made], *zip(*(one.inputs for one in made), strict=True)]
        for name, slices_hu in zip(names, images, strict=True):
            store.save_degraded(key, name, np.stack(slices_hu))
    targets, *inputs = (store.load_degraded(key, name) for name in names)
    return [
        replace(one, target=targets[place], inputs=tuple(each[place] for each in inputs))
        for place, one in enumerate(found.values())
    ]


def _kept(found: dict[int, _Slice], store: Store, key: str, config: RunConfig) -> dict[int, _Slice]:
    """The slices of a series as `transforms` keeps them, by their numbers."""
    if not found or not isinstance(config, DenoiseRun) or not config.transforms:
        return found
    if config.transforms.cache == "disk":
        draws = [degradation_digest(config, draw) for draw in range(config.data.realisations)]
        kept = _on_disk(found, store, key, config.transforms, draws)
    elif config.transforms.cache:
        kept = _in_memory(list(found.values()), config.transforms)
    else:
        return found
    return dict(zip(found, kept, strict=True))


def _slices(store: Store, key: str, config: RunConfig, size: tuple[int, int]) -> list[_Slice]:
    volume = store.load(key)
    if any(n < p for n, p in zip(volume.image_hu.shape[1:], size, strict=True)):
        raise ConfigError(
            f"data.patch: {size} is larger than the slices of {key}, {volume.image_hu.shape[1:]}"
        )
    inputs = [
        store.load_degraded(key, degradation_digest(config, realisation))
        for realisation in range(config.data.realisations)
    ]
    found: dict[int, _Slice] = {}
    patient = store.record(key).patient
    for index, image_hu in enumerate(volume.image_hu):
        box: tuple[slice, slice] | None = slice(None), slice(None)
        if config.data.region == "body":
            box = bounding_box(body_mask(image_hu) & volume.valid[index], size)
        if box is not None:
            draws = tuple(degraded[index] for degraded in inputs)
            found[index] = _Slice(patient, image_hu, draws, box)
    found = _kept(found, store, key, config)
    return [
        replace(one, beside=tuple(found[i] for i in (index - 1, index + 1) if i in found))
        for index, one in found.items()
    ]
