"""How a job of `ldct schedule` ended, as log and alerts have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.schedule import hospital

from flows.hospital import jobs
from pipeline.core.errors import ConfigError
from pipeline.pacs.settings.hospital import load_pacs


@pytest.mark.parametrize(
    ("end", "outcome", "alerted"),
    [
        (None, "ran", "over"),
        (jobs._NothingToDo(), "skipped", "over"),
        (jobs._GateFailed("PSNR"), "gate failed", "over"),
        (ConfigError("a fault"), "failed", "failed"),
        (SystemExit(0), "interrupted", "none"),  # SIGTERM, as at the end of `ldct schedule`
    ],
)
def test_how_it_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: BaseException | None,
    outcome: str,
    alerted: str,
) -> None:
    """A model that does not pass its gate is no failure of the job; what was interrupted is
    neither, and so no news of an earlier failure."""
    logged, conditions = [], []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(jobs, "log", lambda event, line, facts: logged.append(facts))
    monkeypatch.setattr(jobs, "look_once", lambda watch: conditions.append(watch.more()))

    def job() -> None:
        with jobs._reported(load_pacs(hospital(tmp_path)), "ldct-nightly"):
            if end is not None:
                raise end

    if end is None:
        job()
    else:
        with pytest.raises(type(end)):
            job()
    (facts,) = logged
    assert facts["outcome"] == outcome
    assert ("details" in facts) == (outcome == "failed")
    expected = {"over": [("nightly", False)], "failed": [("nightly", True)], "none": []}
    assert [(each.of, bool(each.items)) for each in conditions[0]] == expected[alerted]
