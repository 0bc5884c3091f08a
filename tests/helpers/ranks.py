"""What a test starts by torchrun: trainings one after another, each by all processes together.

python tests/helpers/ranks.py TRAININGS.json OUT, a list of {"training": ..., "kill_at": N or null}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import LdctError
from pipeline.tasks.training_job import TrainingJob, join_as_worker
from pipeline.training.distributed import process_group
from pipeline.training.loop import Loop


def together(number: int, asked: dict[str, Any], out: Path) -> None:
    """Train; the first process writes what came of it, and every one what it was refused for."""
    own, curve = process_group(), []
    try:
        if not join_as_worker():
            model = TrainingJob(**asked).run(lambda metrics, step: curve.append((step, metrics)))
            torch.save({"curve": curve, "weights": model.state_dict()}, out / f"{number}.pt")
    except LdctError as error:
        (out / f"{number}-{own.rank}.txt").write_text(str(error))


def note_saves(out: Path) -> None:
    saved = Loop.save

    def save(loop: Loop, iteration: int) -> None:
        (out / f"saved-{process_group().rank}").touch()
        saved(loop, iteration)

    Loop.save = save  # type: ignore[method-assign]


def main() -> None:
    torch.set_num_threads(1)
    out = Path(sys.argv[2])
    note_saves(out)
    for number, asked in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        together(number, asked, out)


if __name__ == "__main__":
    main()
