"""Low-dose CT from Python: read, simulate, denoise, segment, evaluate and write series, in HU.

    import ldct

    scan = ldct.read("SERIES")
    ldct.write_derived(ldct.denoise(scan), "denoised")

`import ldct` loads nothing heavy; each function loads what it needs at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ldct.own_packages import keep_own

if TYPE_CHECKING:
    from ldct.files import ingest as ingest
    from ldct.files import write_derived as write_derived
    from ldct.processing import denoise as denoise
    from ldct.processing import evaluate as evaluate
    from ldct.processing import load_model as load_model
    from ldct.processing import simulate as simulate
    from ldct.segmentation import Segmentation as Segmentation
    from ldct.segmentation import segment as segment
    from ldct.series import CTSeries as CTSeries
    from ldct.series import find as find
    from ldct.series import from_array as from_array
    from ldct.series import read as read
    from pipeline.core.errors import LdctError as LdctError

    __version__: str

#: Where each public name is defined: its module, and what it is called there.
_DEFINED = {
    "CTSeries": ("ldct.series", "CTSeries"),
    "LdctError": ("pipeline.core.errors", "LdctError"),
    "Segmentation": ("ldct.segmentation", "Segmentation"),
    "__version__": ("pipeline.core.versions", "VERSION"),
    "denoise": ("ldct.processing", "denoise"),
    "evaluate": ("ldct.processing", "evaluate"),
    "find": ("ldct.series", "find"),
    "from_array": ("ldct.series", "from_array"),
    "ingest": ("ldct.files", "ingest"),
    "load_model": ("ldct.processing", "load_model"),
    "read": ("ldct.series", "read"),
    "segment": ("ldct.segmentation", "segment"),
    "simulate": ("ldct.processing", "simulate"),
    "write_derived": ("ldct.files", "write_derived"),
}

__all__ = [
    "CTSeries",
    "LdctError",
    "Segmentation",
    "__version__",
    "denoise",
    "evaluate",
    "find",
    "from_array",
    "ingest",
    "load_model",
    "read",
    "segment",
    "simulate",
    "write_derived",
]

keep_own()


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use (PEP 562)."""
    if name not in _DEFINED:
        raise AttributeError(f"module 'ldct' has no attribute {name!r}")
    module, attribute = _DEFINED[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
