"""What the parameters of a flow name: they are kept by Prefect, so they are names, not paths.

A hospital NAME is LDCT_HOSPITALS/NAME.yaml, a store NAME is the folder LDCT_STORES/NAME, both on
the computer that runs the flow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.core.errors import ConfigError

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
#: Without dots: NAME.yaml is a path.
_HOSPITAL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
HOSPITALS, STORES = "LDCT_HOSPITALS", "LDCT_STORES"
#: Where both are looked for without these variables.
_FOLDERS = {HOSPITALS: Path("/etc/ldct"), STORES: Path("/var/lib/ldct")}

HospitalName = Annotated[
    str,
    Field(pattern=_HOSPITAL_NAME, description="NAME of the hospital's NAME.yaml in LDCT_HOSPITALS"),
]
StoreName = Annotated[str, Field(pattern=_NAME, description="NAME of a store in LDCT_STORES")]
ConfigName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_]{1,100}$",
        description="a configuration that comes with the software, such as denoise_redcnn",
    ),
]
ModelReference = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.-]{1,100}([@/][A-Za-z0-9_.-]{1,100})?$",
        description="NAME (its champion), NAME@alias or NAME/VERSION",
    ),
]


def hospital_file(hospital: str) -> Path:
    """The YAML of a hospital's name; a path is taken as it is, as `ldct schedule` deploys it."""
    if Path(hospital).name != hospital or hospital.endswith((".yaml", ".yml")):
        return Path(hospital)
    path = _folder(HOSPITALS) / f"{hospital}.yaml"
    if not path.is_file():
        raise ConfigError(f"no hospital {hospital}: {path} is not there ({HOSPITALS})")
    return path


def store_folder(store: str) -> Path:
    """The folder of a store's name. Raises ConfigError where there is none."""
    path = _folder(STORES) / store
    if not path.is_dir():
        raise ConfigError(f"no store {store}: {path} is not there ({STORES})")
    return path


def _folder(variable: str) -> Path:
    return Path(os.environ.get(variable) or _FOLDERS[variable])
