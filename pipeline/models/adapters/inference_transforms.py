"""MONAI's invertible transforms around a denoiser: the network sees each slice through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.config.component import require_arguments
from pipeline.config.sections import Component
from pipeline.core.errors import ConfigError

IMAGE = "image"


class InferenceTransforms:
    """The transforms of `transforms.inference`, in order.

    entries: {"_target_": NAME, argument: value, ...} of pipeline.config.transforms.INVERTIBLE.
    Raises ConfigError, with the key, for arguments that MONAI does not take.
    """

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        from monai.transforms import Compose  # MONAI takes seconds to import

        self.transforms = Compose([_built(entry, number) for number, entry in enumerate(entries)])

    def through(
        self, denoise: Callable[[torch.Tensor], torch.Tensor], image_hu: torch.Tensor
    ) -> torch.Tensor:
        """HU [batch, 1, rows, columns] in and out: what `denoise` changes of the transformed
        slices is transformed back and added to the slices.

        Pixels that a transform adds, such as a padding, are dropped again; what one that
        interpolates would lose of the slice itself is not lost.
        """
        from monai.data import MetaTensor  # MONAI takes seconds to import

        shown = [self.transforms({IMAGE: MetaTensor(one)})[IMAGE] for one in image_hu]
        seen_hu = torch.stack([one.as_tensor() for one in shown])
        changes_hu = denoise(seen_hu) - seen_hu
        back = [
            MetaTensor(change, applied_operations=one.applied_operations)
            for one, change in zip(shown, changes_hu, strict=True)
        ]
        inverted = [self.transforms.inverse({IMAGE: change})[IMAGE] for change in back]
        return image_hu + torch.stack([change.as_tensor() for change in inverted])


def _built(entry: dict[str, Any], number: int) -> Any:
    import monai.transforms  # MONAI takes seconds to import

    name, key = entry["_target_"], f"transforms.inference.{number}"
    kind = getattr(monai.transforms, name)
    arguments = {argument: value for argument, value in entry.items() if argument != "_target_"}
    if name == "Zoomd":
        arguments["keep_size"] = False  # it would cut off or pad what cannot be brought back
    arguments["keys"] = IMAGE
    require_arguments(kind, arguments, Component(target=name, args=arguments), key)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{key}: {name}: {error}") from error
