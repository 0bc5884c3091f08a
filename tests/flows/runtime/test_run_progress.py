"""How far a stage is, as the UI of Prefect shows it."""

from __future__ import annotations

import asyncio

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact

from flows.runtime.progress import StageProgress
from flows.runtime.run_progress import RunProgress


async def artifacts() -> list[Artifact]:
    async with get_client() as client:
        return await client.read_artifacts(limit=200)


@pytest.mark.usefixtures("prefect_server")
def test_a_long_stage_shows_how_far_it_is_and_a_short_one_nothing() -> None:
    seen = []

    @flow(name="ldct-test-progress")
    def body() -> None:
        with StageProgress("work hard to s-1", unit="slices", total=8) as stage:
            stage.in_run.every_s = 0
            stage.advance(2)
            seen.extend(asyncio.run(artifacts()))
            stage.at(6, "Smith^John.dcm")
        with StageProgress("work briefly", unit="slices", total=8) as stage:
            stage.advance(2)

    body()
    (first,) = [each for each in seen if each.key == "progress-work-hard"]
    assert (first.type, first.data, first.description) == ("progress", 25, "work hard to s-1")
    found = {each.key: each for each in asyncio.run(artifacts())}
    assert found["progress-work-hard"].data == 100
    assert "progress-work-briefly" not in found
    assert "Smith" not in "".join(str(each) for each in found.values())


def test_outside_of_a_run_and_without_a_server_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bar = RunProgress("work", every_s=0)
    bar.at(1, 2)
    bar.end()
    assert (bar.artifact, bar.given_up) == (None, False)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no server")

    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", fail)
    monkeypatch.setattr("flows.runtime.run_progress.in_run", lambda: True)
    bar.at(1, 2)
    assert bar.given_up
