"""What comes with the software goes by name, wherever `ldct` is run: configurations and models."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from pipeline.core.errors import ConfigError

#: The alias of models that come with the software: NAME@pretrained.
PRETRAINED = "pretrained"


def find_config(named: Path) -> Path:
    """The file at a path, or else the shipped configuration of that name (`denoise_redcnn`).

    Raises ConfigError where a bare name is neither; other paths are returned as they are.
    """
    if named.is_file() or len(named.parts) != 1 or named.suffix:
        return named
    folder = Path(str(resources.files("configs")))
    shipped = {name: folder / f"{name}.yaml" for name in shipped_configs()}
    if named.name in shipped:
        return shipped[named.name]
    near = difflib.get_close_matches(named.name, shipped, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(shipped)}"
    raise ConfigError(f"no configuration comes with the software as {named}; {hint}")


def find_pretrained(name: str) -> Path:
    """The folder of a model that comes with the software; ConfigError where there is none."""
    root = Path(str(resources.files("pretrained")))
    if not (root / name / "card.json").exists():
        shipped = ", ".join(pretrained_models())
        raise ConfigError(f"no pretrained model {name}; there are: {shipped}")
    return root / name


def shipped_configs() -> list[str]:
    """The names of the configurations that come with the software."""
    return sorted(path.stem for path in Path(str(resources.files("configs"))).glob("*.yaml"))


def pretrained_models() -> list[str]:
    """The names of the models that come with the software."""
    root = Path(str(resources.files("pretrained")))
    return sorted(path.parent.name for path in root.glob("*/card.json"))
