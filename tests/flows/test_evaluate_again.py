"""The same evaluation a second time is skipped, and says so."""

from __future__ import annotations

import pytest
from helpers.flows import identity_config, register
from helpers.images import tiny_store

from flows import stages
from flows.evaluate import evaluate_flow
from pipeline.evaluation.requests import EvaluateRequest
from pipeline.store import kept_figures


@pytest.mark.usefixtures("own_registry")
def test_the_same_evaluation_is_skipped_and_another_code_measures_again(
    tmp_path, monkeypatch, capfd
):
    register(identity_config())
    request = EvaluateRequest("identity/1", tiny_store(tmp_path / "store", patients=4).path)
    measured, measure = [], stages.evaluate_stage
    monkeypatch.setattr(
        stages, "evaluate_stage", lambda *given: measured.append(1) or measure(*given)
    )
    first = evaluate_flow(request, None)
    assert "skipped" not in capfd.readouterr().err
    assert evaluate_flow(request, None) == first
    assert measured == [1]
    assert "evaluate: skipped, the same was measured before" in capfd.readouterr().err
    monkeypatch.setattr(kept_figures, "code_digest", lambda: "another")
    assert evaluate_flow(request, None) == first
    assert measured == [1, 1]
