"""What ran: said in every report, registered model and derived image."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, distributions, version

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


def environment() -> str:
    """Python and every installed package as `name==version`, a line each: no paths or addresses
    of where they were installed from."""
    found = {each.name: each.version for each in distributions() if each.name}
    packages = sorted((f"{name}=={number}" for name, number in found.items()), key=str.casefold)
    head = f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return "\n".join([head, *packages, ""])
