"""The packages that lie beside this one are found, whatever else has their names.

`pipeline`, `flows`, `configs` and `pretrained` are common names: a notebook's folder comes before
the installed packages in sys.path, and may hold files or folders that are called so.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

OWN = ("pipeline", "flows", "configs", "pretrained")
ROOT = Path(__file__).resolve().parents[1]


class _OwnFirst(MetaPathFinder):
    """Finds the packages of OWN beside this one, before sys.path is searched."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The package's spec; None for any other module."""
        if path is not None or fullname not in OWN:
            return None
        folder = ROOT / fullname
        return spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def keep_own() -> None:
    """Make `import pipeline` and the like find this software's, from now on in this process.

    Changes nothing where they are found anyway. Warns of a file that can then not be imported by
    its name. Raises ImportError where another module of that name is imported already.
    """
    for name in OWN:
        if name in sys.modules:
            _require_own(name, sys.modules[name])
    found = {name: PathFinder.find_spec(name) for name in OWN}
    others = {name: spec for name, spec in found.items() if spec and not _is_own(name, spec.origin)}
    if not others:
        return
    if not any(isinstance(finder, _OwnFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnFirst())
    for name, spec in others.items():
        if spec.origin is not None:  # a folder without __init__.py gives way to any package
            warnings.warn(
                f"{spec.origin} cannot be imported in this process, since ldct has a package "
                f"{name}: rename it if you need both",
                stacklevel=3,
            )


def _is_own(name: str, file: str | None) -> bool:
    return file is not None and Path(file).resolve() == ROOT / name / "__init__.py"


def _require_own(name: str, module: ModuleType) -> None:
    file = getattr(module, "__file__", None)
    if not _is_own(name, file):
        where = file or next(iter(getattr(module, "__path__", [])), "another module")
        raise ImportError(
            f"{where} is imported as {name} already, and ldct has a package of that name: rename "
            "that file or folder, and start Python again"
        )
