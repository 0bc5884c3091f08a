"""MLflow runs of killed processes, and what they registered."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
from helpers.flows import identity_config, register

from flows.tracking.abandoned_runs import TAG, ProcessMark
from flows.tracking.registry import Registry

pytestmark = pytest.mark.usefixtures("own_registry")


def _tell_mark(pipe) -> None:
    pipe.send(str(ProcessMark.here()))
    signal.pause()


def test_the_runs_of_killed_processes_end_as_killed_and_others_go_on():
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=_tell_mark, args=(theirs,))
    process.start()
    registry, config = Registry.default(), identity_config()
    with registry.run(config, data_digest="0" * 64):
        pass
    client = registry.client
    (experiment,) = client.search_experiments(filter_string=f"name = '{config.name}'")

    def make(mark: str) -> str:
        return client.create_run(experiment.experiment_id, tags={TAG: mark}).info.run_id

    def states() -> list[str]:
        return [client.get_run(run).info.status for run in runs]

    here = ProcessMark.here()
    theirs_mark = mine.recv()
    runs = [
        make(theirs_mark),  # alive, then killed
        make(str(replace(here, started="1"))),  # another process had this number before
        make(str(replace(here, boot="before"))),  # before the computer was started again
        make(str(replace(here, host="elsewhere"))),
        make(str(replace(here, namespace="pid:[1]", pid=999999999))),  # another container's
        make("no mark"),
    ]
    with registry.run(config, data_digest="0" * 64) as running:
        assert client.get_run(running.run_id).info.status == "RUNNING"
    assert states() == ["RUNNING", "KILLED", "KILLED", "RUNNING", "RUNNING", "RUNNING"]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with registry.run(config, data_digest="0" * 64):
        pass
    assert states()[0] == "KILLED"
    assert states()[3:] == ["RUNNING"] * 3


def test_what_a_killed_run_registered_is_taken_by_the_run_that_goes_on():
    config = identity_config()
    made = [register(config, training=name).version for name in ("one", "one", "one")]
    assert made == [1, 1, 1]
    client = Registry.default().client
    runs = client.search_runs([client.get_experiment_by_name(config.name).experiment_id])
    assert len(runs) == 3
    assert {run.data.metrics["test.soft_tissue.output.psnr"] for run in runs} == {30}
    assert {run.data.tags["version"] for run in runs} == {"1"}
    # The same weights, and not by the same training.
    assert register(config, training="another").version == 2
    rows = sorted(Registry.default().list(), key=lambda row: row.version)
    assert [row.aliases for row in rows] == [["champion"], ["challenger"]]
