"""What ran: said in every report, registered model and derived image."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

SOFTWARE = "ldct"


def _own_version() -> str:
    try:
        return version(SOFTWARE)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"


VERSION = _own_version()
PACKAGES = ("torch", "monai", "numpy", "pydicom", "numba", "scikit-image", "prefect", "mlflow")


def versions() -> dict[str, str]:
    """Versions of this software, Python, the machine and the packages that decide results."""
    found = {SOFTWARE: VERSION, "python": platform.python_version()}
    found["machine"] = f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def code_digest() -> str:
    """SHA-256 of every module of this package: a checkout changes without a new version."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def environment() -> str:
    """Python and every installed package as `name==version`, a line each: no paths or addresses
    of where they were installed from."""
    found = {each.name: each.version for each in distributions() if each.name}
    packages = sorted((f"{name}=={number}" for name, number in found.items()), key=str.casefold)
    head = f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return "\n".join([head, *packages, ""])
