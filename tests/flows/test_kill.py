"""Kill -9 at random moments of ingest, training, apply and send: nothing is lost, halved or
done twice, and what was done is not done again.

A handful of kills here; 100 by `pytest -m slow tests/flows/test_kill.py`.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import KEY
from helpers.kill import EVERY, ITERATIONS, TINY, Noise
from helpers.pacs import FolderPeer, series_of, settings, write_ct

from pipeline.config.load import parse_config
from pipeline.core.atomic_files import replacing
from pipeline.dicom.read.series import find_series
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.models.adapters.base import ModelAdapter, build_model
from pipeline.models.adapters.card import ModelCard
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.store.store import Store
from pipeline.training.loop import train

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"
CONTEXT = multiprocessing.get_context("forkserver")
# Not this module: a fork server of Python 3.11 does not look where pytest does.
CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "torch._dynamo",  # which an optimiser imports at its first step
        "pipeline.training.loop",
        "pipeline.training.steps.supervised",
        "pipeline.models.redcnn",
        "pipeline.losses.image",
        "pipeline.ingest.ingest",
        "pipeline.export.series",
        "pipeline.pacs.steps.worker",
    ]
)


class Killer:
    """Kills processes at random moments until `wanted` were, over as many rounds as that takes."""

    def __init__(self, wanted: int, *, seed: int, longest_s: float) -> None:
        self.wanted, self.longest_s = wanted, longest_s
        self.chance = random.Random(seed)
        self.kills = 0

    def rounds(self, root: Path) -> Iterator[Path]:
        """A new folder for each round. Where a round ended before its kill, as it does on a fast
        machine, the next one waits half as long."""
        for number in itertools.count():
            if self.kills >= self.wanted:
                return
            folder, before = root / f"round-{number}", self.kills
            folder.mkdir()
            yield folder
            if self.kills == before:
                self.longest_s /= 2

    def until_done(
        self,
        target: Callable[..., None],
        *arguments: str,
        at_once: int = 1,
        look: Callable[[], None] = lambda: None,
    ) -> int:
        """Start processes, kill them, and again, until all end by themselves.

        look: at what a kill left. Returns how many processes were killed.
        """
        kills, patience_s = 0, self.longest_s
        while True:
            ended = self._once(target, arguments, at_once, patience_s)
            look()
            if ended[0] == at_once:
                self.kills += kills
                return kills
            kills += ended[-signal.SIGKILL]
            patience_s *= 1.1  # a slow machine comes to its end too

    def _once(
        self,
        target: Callable[..., None],
        arguments: tuple[str, ...],
        at_once: int,
        patience_s: float,
    ) -> Counter:
        """How many processes ended with which exit code."""
        begun = CONTEXT.Semaphore(0)
        processes = [
            CONTEXT.Process(target=target, args=(*arguments, begun)) for _ in range(at_once)
        ]
        for process in processes:
            process.start()
        for _ in processes:
            assert begun.acquire(timeout=120)
        processes[0].join(self.chance.uniform(0, patience_s))
        for process in processes:
            process.kill()
            process.join()
        ended = Counter(process.exitcode for process in processes)
        assert set(ended) <= {0, -signal.SIGKILL}
        return ended


def end_at_once(_: str, begun: Any) -> None:
    begun.release()


def test_a_machine_on_which_all_ends_before_its_kill(tmp_path: Path) -> None:
    killer = Killer(2, seed=4, longest_s=2)
    folders = []
    for folder in killer.rounds(tmp_path):
        folders.append(folder)
        killer.until_done(end_at_once, str(folder))
    assert killer.kills >= 2
    assert killer.longest_s < 2, "a round without a kill shortens the next"
    assert folders == [tmp_path / f"round-{number}" for number in range(len(folders))]


def few_or(many: int, *, quick: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("wanted", [quick, pytest.param(many, marks=pytest.mark.slow)])


def ingest_in_a_child(source: str, store: str, begun: Any) -> None:
    begun.release()
    ingest(Path(source), Store(Path(store)), key=KEY)


@few_or(30, quick=3)
def test_ingest(tmp_path: Path, wanted: int) -> None:
    source, killer = tmp_path / "in", Killer(wanted, seed=1, longest_s=0.15)
    for number in range(1, 9):
        write_ct(source, number, PatientID=f"P{number}")
    ingest(source, whole := Store(tmp_path / "whole"), key=KEY)
    digests = {key: record.digest for key, record in whole.records().items()}
    for store in killer.rounds(tmp_path):
        written: dict[str, set[int]] = {}

        def look(store: Path = store, written: dict[str, set[int]] = written) -> None:
            for record in store.glob("volumes/[!.]*.json"):
                inode = record.with_suffix(".nii").stat().st_ino
                written.setdefault(record.stem, set()).add(inode)

        killer.until_done(ingest_in_a_child, str(source), str(store), look=look)
        ended = Store(store)
        assert {key: record.digest for key, record in ended.records().items()} == digests
        for key in digests:
            np.testing.assert_array_equal(ended.load(key).image_hu, whole.load(key).image_hu)
        assert {len(inodes) for inodes in written.values()} == {1}, "a whole series is left alone"


def train_in_a_child(folder: str, begun: Any) -> None:
    torch.set_num_threads(1)
    here, config = Path(folder), parse_config(TINY)
    build_model(config)  # what is imported late is imported now
    begun.release()

    def log(metrics: dict[str, float], iteration: int) -> None:
        with (here / f"log-{os.getpid()}").open("a") as lines:
            lines.write(f"{iteration}\n")

    model = train(config, Noise(), folder=here, log=log, data_digest="0" * 64)
    with replacing(here / "weights.pt") as partial:
        torch.save(model.state_dict(), partial)


@few_or(30, quick=3)
def test_training(tmp_path: Path, wanted: int) -> None:
    killer = Killer(wanted, seed=2, longest_s=0.3)
    (tmp_path / "whole").mkdir()
    train_in_a_child(str(tmp_path / "whole"), CONTEXT.Semaphore(0))
    weights = torch.load(tmp_path / "whole" / "weights.pt", weights_only=True)
    for folder in killer.rounds(tmp_path):
        done = [0]  # iterations in the checkpoint: before the first start, and after each end
        computed = [0]

        def look(folder: Path = folder, done: list = done, computed: list = computed) -> None:
            for path in folder.glob("log-*"):
                # A resumed training first repeats what was logged before.
                computed[0] += max(0, len(path.read_text().split()) - done[-1])
                path.unlink()
            for path in folder.glob("checkpoint-*.pt"):
                done.append(torch.load(path, weights_only=True)["iteration"])

        killed = killer.until_done(train_in_a_child, str(folder), look=look)
        assert done == sorted(done), "a checkpoint is never lost"
        assert ITERATIONS <= computed[0] <= ITERATIONS + EVERY * killed
        ended = torch.load(folder / "weights.pt", weights_only=True)
        assert all(torch.equal(ended[name], weights[name]) for name in weights)


@functools.cache
def identity() -> tuple[ModelAdapter, ModelCard]:
    config = parse_config({**TINY, "model": {"target": "pipeline.models.adapters.base.Identity"}})
    return build_model(config), ModelCard("identity", 1, *["0" * 64] * 3, 0)


def work_in_a_child(root: str, begun: Any) -> None:
    here, (model, card) = Path(root), identity()
    chosen = settings(here / "work", retry={"crashes": 10_000})

    def derive(series: Path, _: str, out: Path) -> None:
        with (here / "applied").open("a") as lines:
            lines.write(f"{series.name}\n")
        for number, found in enumerate(find_series(series).series):
            made, *_ = export_denoised(model, card, found, Export(out / f"s-{number}"))
            assert made is not None

    pacs, source = FolderPeer(here / "pacs"), FolderPeer(here / "source")
    worker = Worker(chosen, Ledger(chosen.work), derive, {"": pacs}, source)
    begun.release()
    worker.run_due()


@few_or(40, quick=6)
def test_two_workers_that_retrieve_apply_and_send(tmp_path: Path, wanted: int) -> None:
    count, killer = 5, Killer(wanted, seed=3, longest_s=0.25)
    for here in killer.rounds(tmp_path):
        fill(here, count)
        killed = killer.until_done(work_in_a_child, str(here), at_once=2)
        ledger = Ledger(here / "work")
        assert ledger.counts()["sent"] == len(ledger.all()) == count
        images = [pydicom.dcmread(path) for path in (here / "pacs").glob("*.dcm")]
        assert Counter(image.SeriesDescription for image in images) == {
            f"AI DENOISED identity v1 | Chest {number}": 3 for number in range(1, count + 1)
        }
        assert all(image.pixel_array.size for image in images)  # whole, or it raises
        # What a kill interrupted is done again, and nothing else is.
        applied = (here / "applied").read_text().split()
        sent = (here / "pacs" / "log").read_text().split()
        assert len(applied) <= count + killed
        assert len(sent) <= 3 * count + killed
        assert list((here / "work").rglob(".partial*")) == []


def fill(here: Path, count: int) -> None:
    """A source of so many series, all of them noted in the ledger."""
    source, ledger = FolderPeer(here / "source"), Ledger(here / "work")
    for number in range(1, count + 1):
        paths = write_ct(here / "new", number)
        source.send(paths)
        ledger.add(series_of(paths[-3:]), "models:/identity/1", origin="t", rule="any", due=0)
    assert ledger.counts()[State.FOUND] == count
    ledger.close()


SETTINGS = [
    "train.iterations=300",
    "train.checkpoint_every=20",
    "train.precision=fp32",  # two processes may measure, and so choose, differently
    "model.args.channels=8",
    "degradation.args.views=240",
]


@pytest.mark.slow
def test_ldct_run_in_the_middle_of_training(phantom_patients: Path, tmp_path: Path) -> None:
    unbroken = run(phantom_patients, tmp_path / "unbroken")
    code = unbroken.wait(300)
    assert code in (0, 5)  # so short a training may fail its gate
    killed = run(phantom_patients, tmp_path / "killed")
    wait_for_checkpoint(tmp_path / "killed")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "report.json").exists()
    resumed = run(phantom_patients, tmp_path / "killed")
    assert resumed.wait(300) == code
    models = [
        json.loads((tmp_path / name / "report.json").read_text())["model"]
        for name in ("unbroken", "killed")
    ]
    assert models[0]["weights_sha256"] == models[1]["weights_sha256"]
    assert [path for path in tmp_path.rglob(".partial*") if path.is_dir()] == []


def run(data: Path, out: Path) -> subprocess.Popen:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.cli.app", "run", str(CONFIG), "--data", str(data)]
    environment = {**os.environ, "PREFECT_HOME": str(out.parent / "prefect")}
    return subprocess.Popen(
        [*command, "--out", str(out), *settings], cwd=out.parent, env=environment
    )


def wait_for_checkpoint(out: Path) -> None:
    for _ in range(1200):
        if list(out.glob("training/checkpoint-*.pt")):
            return
        time.sleep(0.1)
    pytest.fail("no checkpoint within two minutes")
