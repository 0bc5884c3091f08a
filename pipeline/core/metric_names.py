"""Names with dots, of figures and settings, as experiment trackers take them."""

from __future__ import annotations

import re


def metric_name(*parts: str) -> str:
    """Parts of a name joined by dots, with `_` for what trackers do not take in a part."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") or "_" for part in parts)
