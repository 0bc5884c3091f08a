"""The checkpoint of a training, its digest, and its predecessor for where it is damaged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.core.atomic_files import replacing, write_text
from pipeline.core.errors import ConfigError

#: More than two, since a save that is killed adds one of a file that never was.
_KEPT_DIGESTS = 20
OnDamage = Callable[[str], None]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept: files of its own for each configuration and data set."""

    folder: Path
    identity: str

    @property
    def path(self) -> Path:
        """The file; the same configuration and data give the same name."""
        return self.folder / f"checkpoint-{self.identity[:16]}.pt"

    @property
    def previous(self) -> Path:
        """What was `path` before the last save."""
        return self.path.with_suffix(".pt.previous")

    @property
    def digests(self) -> Path:
        """SHA-256 of the files that were written, newest first; version 0.1.0 wrote none."""
        return self.path.with_suffix(".sha256")

    def exists(self) -> bool:
        """Whether there is anything to go on from."""
        return self.path.exists() or self.previous.exists()

    def save(self, state: dict[str, Any]) -> None:
        """Write it whole or not at all, and keep what there was as its predecessor."""
        with replacing(self.path) as partial:
            torch.save(state, partial)
            # Before the file takes its place: a kill between the two leaves both known.
            known = [_digest(partial), *self._known()][:_KEPT_DIGESTS]
            write_text(self.digests, "".join(f"{digest}\n" for digest in known))
            if self.path.exists():
                self._keep_previous()

    def load(self, device: str, on_damage: OnDamage) -> dict[str, Any] | None:
        """The state that was saved last and is whole, None where nothing was saved.

        on_damage: gets the fault of a damaged file, which is put aside. Raises ConfigError where no
        predecessor is whole either.
        """
        faults = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state = self._read(path, device)
            except _DamagedError as fault:
                faults.append(f"the checkpoint {path} is damaged ({fault})")
                continue
            if faults:
                aside = self.path.with_suffix(".pt.damaged")
                with suppress(FileNotFoundError):  # another process of this training was first
                    os.replace(self.path, aside)
                on_damage(f"{faults[0]}, and now {aside.name}: goes on from its predecessor")
            return state
        if faults:
            raise ConfigError(
                f"{'; '.join(faults)}: restore it from a backup, or delete it to train from scratch"
            )
        return None

    def _read(self, path: Path, device: str) -> dict[str, Any]:
        known = self._known()
        if known and _digest(path) not in known:
            raise _DamagedError(f"its SHA-256 is not in {self.digests.name}")
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # what torch raises depends on where the file ends
            raise _DamagedError(str(error).partition("\n")[0] or type(error).__name__) from error

    def _known(self) -> list[str]:
        if not self.digests.exists():
            return []
        return self.digests.read_text(encoding="utf-8").split()

    def _keep_previous(self) -> None:
        """By a second name: the file stays where it is until its successor takes the place."""
        with replacing(self.previous) as partial:
            try:
                os.link(self.path, partial)
            except OSError:  # a file system without links
                shutil.copyfile(self.path, partial)


class _DamagedError(Exception):
    """A file is not what was written."""


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
