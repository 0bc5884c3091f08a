"""Flows that a person starts in Prefect's UI: names in, figures and states out."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from helpers.schedule import hospital

from flows.hospital import jobs, on_request
from flows.hospital.named import hospital_file, store_folder
from pipeline.core.errors import ConfigError


def test_names_lead_to_files_of_the_computer_that_runs_the_flow(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_HOSPITALS", str(tmp_path))
    monkeypatch.setenv("LDCT_STORES", str(tmp_path))
    path = hospital(tmp_path)
    (tmp_path / "chest").mkdir()
    assert hospital_file("hospital") == hospital_file(str(path)) == path
    assert store_folder("chest") == tmp_path / "chest"
    with pytest.raises(ConfigError, match="no hospital elsewhere"):
        hospital_file("elsewhere")
    with pytest.raises(ConfigError, match="no store abdomen"):
        store_folder("abdomen")


@pytest.mark.parametrize("wrong", ["/data/doe", "..", "a/b", ""])
@pytest.mark.parametrize("flow", [on_request.train, on_request.evaluate, on_request.ingest])
def test_no_flow_takes_a_path(flow, wrong):
    (name,) = {"store", "hospital"} & set(flow.parameters.properties)
    others = {"config": "denoise_redcnn", "model": "identity/1"}
    given = {key: value for key, value in others.items() if key in flow.parameters.properties}
    assert flow.validate_parameters({**given, name: "chest"})
    with pytest.raises(Exception, match=name):
        flow.validate_parameters({**given, name: wrong})


@pytest.mark.parametrize(
    ("passed", "state"), [(True, None), (False, "Gate failed"), (None, "Skipped")]
)
def test_training_on_request_ends_in_the_state_that_says_how(tmp_path, monkeypatch, passed, state):
    seen = []

    def train(config, store, *, unless_known):
        seen.append((config.name, store, unless_known))
        if passed is None:
            return {"known": "identity/1"}
        checks = [{"check": "psnr", "figure": 1.0, "limit": ">= 2", "passed": passed}]
        return {"model": {"name": "identity", "version": 1}, "gate": {"checks": checks}}

    monkeypatch.setenv("LDCT_STORES", str(tmp_path))
    monkeypatch.setattr("flows.commands.train_flow", train)
    monkeypatch.setattr(jobs, "concurrency", lambda *_, **__: nullcontext())
    (tmp_path / "chest").mkdir()
    ended = on_request.train.fn("chest", "denoise_redcnn")
    assert (ended.name if ended else None) == state
    assert seen == [("denoise_redcnn", tmp_path / "chest", True)]
