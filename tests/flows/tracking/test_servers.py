"""MLflow and Prefect on a real PostgreSQL, by the documented commands: shared, shut, saved."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import mlflow
import pytest
import yaml
from helpers.servers import POSTGRES, ROOT, Servers, commands, environment, run, running_servers

from flows.tracking.registry import CHALLENGER, CHAMPION

REGISTER = """
import sys
import time
from pathlib import Path
from helpers.flows import identity_config, register
Path(sys.argv[1], sys.argv[2]).touch()
while len(list(Path(sys.argv[1]).iterdir())) < 2:
    time.sleep(0.05)
print(register(identity_config()).version)
"""

FLOW = """
import os, time
from pathlib import Path
from prefect import flow

@flow
def job(folder: str):
    Path(folder, str(os.getppid())).touch()
    until = time.monotonic() + 300
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def servers(
    require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    require_program(str(POSTGRES / "initdb"))
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


def test_nobody_gets_in_without_the_password(servers):
    for path in (servers.folder / ".env", servers.folder / "mlflow-auth.ini"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    models = f"http://127.0.0.1:{servers.mlflow_port}/api/2.0/mlflow/registered-models/search"
    runs = f"http://127.0.0.1:{servers.prefect_port}/api/flow_runs/filter"
    user, password = servers.secrets["PREFECT_API_AUTH_STRING"].split(":")
    admin = "ldct", servers.secrets["MLFLOW_TRACKING_PASSWORD"]
    with httpx.Client(timeout=60) as anybody:
        assert anybody.get(models).status_code == 401
        assert anybody.get(models, auth=("admin", "password1234")).status_code == 401
        assert anybody.get(models, auth=admin).status_code == 200
        assert anybody.post(runs, json={}).status_code == 401
        assert anybody.post(runs, json={}, auth=(user, "wrong")).status_code == 401
        assert anybody.post(runs, json={}, auth=(user, password)).status_code == 200
    for name in ("mlflow.log", "prefect.log"):
        log = (servers.folder / name).read_text()
        assert not any(secret in log for secret in (password, admin[1]))


def python(servers: Servers, *arguments: object, **more: Any) -> subprocess.Popen:
    env = environment(**servers.client, PREFECT_HOME=str(servers.folder / "prefect-client"))
    env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{ROOT / 'tests'}"
    command = [sys.executable, *map(str, arguments)]
    env |= more.pop("env", {})
    return subprocess.Popen(command, env=env, text=True, **{"cwd": servers.folder, **more})


def versions_of(client: mlflow.MlflowClient) -> tuple[dict[int, list[str]], dict[str, str]]:
    found = client.search_model_versions("name='identity'")
    aliases = client.get_registered_model("identity").aliases
    return {int(v.version): v.tags["gate"] for v in found}, {k: str(v) for k, v in aliases.items()}


def test_two_processes_register_at_once_and_a_copy_brings_both_back(servers, tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    ready.mkdir()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [python(servers, "-c", REGISTER, ready, n, **pipes) for n in (1, 2)]
    try:
        ended = [process.communicate(timeout=900) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(out.split()[-1] for out, _ in ended) == ["1", "2"]
    expected = {1: "passed", 2: "passed"}, {CHAMPION: "1", CHALLENGER: "2"}
    for name, value in servers.client.items():
        monkeypatch.setenv(name, value)
    assert versions_of(mlflow.MlflowClient(servers.client["MLFLOW_TRACKING_URI"])) == expected
    assert not (servers.folder / "mlruns").exists()  # all went through the server

    env = environment(**servers.database)
    copy = {"BACKUP": str(tmp_path / "copy"), "ARTIFACTS": str(servers.folder / "artifacts")}
    (tmp_path / "copy").mkdir()
    run(commands("back-up"), folder=tmp_path, env={**env, **copy})
    restore = commands("restore").replace('"$database"', '"again_$database"')
    run(restore, folder=tmp_path, env={**env, **copy, "ARTIFACTS": str(tmp_path / "artifacts")})
    place = f"127.0.0.1:{servers.database['PGPORT']}/again_mlflow"
    url = f"postgresql+pg8000://ldct:{servers.secrets['LDCT_DB_PASSWORD']}@{place}"
    assert versions_of(mlflow.MlflowClient(url)) == expected
    weights = list((tmp_path / "artifacts").rglob("weights.safetensors"))
    assert len(weights) == 2


def prefect_api(servers: Servers) -> httpx.Client:
    return httpx.Client(
        base_url=servers.client["PREFECT_API_URL"],
        auth=tuple(servers.secrets["PREFECT_API_AUTH_STRING"].split(":")),
        timeout=60,
    )


def deploy_all(servers: Servers) -> None:
    """As docs/servers.md says under "Work pools"."""
    pool = ["work-pool", "create", "ldct", "--type", "process", "--overwrite"]
    assert python(servers, "-m", "prefect", *pool).wait() == 0
    deploy = ["-m", "prefect", "--no-prompt", "deploy", "--all"]
    named = {"HOSPITAL": "hospital"}
    assert python(servers, *deploy, cwd=ROOT, env=named, stdout=subprocess.PIPE).wait() == 0


def test_the_flows_of_the_ui_take_names_and_no_path(servers):
    deploy_all(servers)
    api = prefect_api(servers)
    found = {row["entrypoint"]: row for row in api.post("/deployments/filter", json={}).json()}
    asked = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {row["entrypoint"] for row in asked} <= set(found)
    train = found["flows/hospital/on_request.py:train"]
    assert set(train["parameter_openapi_schema"]["properties"]) == {"store", "config", "promote"}
    assert train["work_pool_name"] == "ldct"
    for wrong in ({"store": "/data/doe"}, {"store": ".."}, {"config": "../secret.yaml"}):
        parameters = {"store": "store", "config": "denoise_redcnn", **wrong}
        start = f"/deployments/{train['id']}/create_flow_run"
        assert api.post(start, json={"parameters": parameters}).status_code == 409
    ingest = found["flows/hospital/on_request.py:ingest"]
    assert ingest["parameters"] == {"hospital": "hospital"}


@pytest.mark.slow
def test_a_worker_runs_what_was_deployed_and_a_failure_says_what(servers, tmp_path):
    """Without a store of that name: the sentence, and no path."""
    deploy_all(servers)
    api, start = prefect_api(servers), ["worker", "start", "--pool", "ldct", "--run-once"]
    deployment = api.get("/deployments/name/ldct-evaluate-store/on-request").json()["id"]
    asked = {"parameters": {"store": "none", "model": "identity/1"}}
    begun = api.post(f"/deployments/{deployment}/create_flow_run", json=asked).json()["id"]
    named = {"LDCT_STORES": str(tmp_path / "doe")}
    assert python(servers, "-m", "prefect", *start, cwd=ROOT, env=named).wait(timeout=900) == 0
    ended = api.get(f"/flow_runs/{begun}").json()
    assert (ended["state_type"], ended["name"]) == ("FAILED", "evaluate identity/1 on none")
    said = ended["state"]["message"]
    assert "ConfigError: the request or its configuration is wrong" in said
    assert "flows.hospital.named" in said or "named:" in said
    assert "doe" not in said


def test_two_workers_share_the_jobs_of_a_pool(servers, tmp_path):
    """Each of two jobs waits for the other: one worker alone, with a limit of one, would not do."""
    (servers.folder / "job.py").write_text(FLOW)
    prefect = ["-m", "prefect"]
    pool = ["work-pool", "create", "ldct", "--type", "process", "--overwrite"]
    assert python(servers, *prefect, *pool).wait() == 0
    deploy = ["--no-prompt", "deploy", "job.py:job", "--name", "test", "--pool", "ldct"]
    assert python(servers, *prefect, *deploy).wait() == 0
    met = tmp_path / "met"
    met.mkdir()
    start = ["worker", "start", "--pool", "ldct", "--limit", "1", "--name"]
    workers = [python(servers, *prefect, *start, name) for name in ("one", "two")]
    try:
        api = prefect_api(servers)
        deployment = api.get("/deployments/name/job/test").json()["id"]
        for _ in range(2):
            asked = {"parameters": {"folder": str(met)}}
            api.post(f"/deployments/{deployment}/create_flow_run", json=asked).raise_for_status()
        until = time.monotonic() + 900
        while time.monotonic() < until:
            only = {"deployments": {"id": {"any_": [deployment]}}}
            runs = api.post("/flow_runs/filter", json=only).json()
            if {row["state_name"] for row in runs} == {"Completed"}:
                break
            time.sleep(1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [row["state_name"] for row in runs] == ["Completed"] * 2
    assert len(list(met.iterdir())) == 2  # the workers are the jobs' parents


def test_the_deployments_for_workers_are_those_of_ldct_schedule():
    asked = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    told = [row for row in asked if "ldct-schedule" in row["tags"]]
    assert [(row["entrypoint"], row["tags"][1]) for row in told] == [
        (f"flows/hospital/jobs.py:{job}", job) for job in ("nightly", "retry", "retrain")
    ]
    for row in told:
        assert row["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        assert json.dumps(row["parameters"]) == '{"hospital": "{{ $HOSPITAL }}"}'
