"""Names for the arrays that every room passes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: An image or a volume in HU, float32: [rows, columns] or [slices, rows, columns].
ImageHU = NDArray[np.float32]
#: A picture in grey levels or colours, float32: [..., rows, columns], channels first.
Picture = NDArray[np.float32]
#: Called with the number of slices (or images) that are done since the last call.
Progress = Callable[[int], None]
