"""docker-compose.yaml: owned volumes, health checks, secrets in files, and the scripts it runs."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from helpers.pacs import free_port
from helpers.servers import commands

from flows.cli.app import app
from pipeline.review.access.settings import load_access

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yaml"
WITH_SECRETS, HEALTHY = ROOT / "containers" / "with-secrets", ROOT / "containers" / "healthy"
PROFILES = {
    "receive": ["pacs", "pacs-gpu"],
    "work": ["pacs"],
    "schedule": ["pacs"],
    "work-gpu": ["pacs-gpu"],
    "schedule-gpu": ["pacs-gpu"],
    "review": ["review"],
}
#: They write to the registry, and run in flows.
OF_SERVERS = PROFILES.keys() - {"review"}


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def script_of(service: dict[str, Any]) -> str:
    """What `sh -euc` is given, after compose's own `$$`."""
    return service["command"][0].replace("$$", "$")


def test_containers_listen_on_this_computer_alone(composed) -> None:
    """Scanners must reach the receiver, and readers the page: where, is said in the environment."""
    ports = {
        name: service["ports"]
        for name, service in composed["services"].items()
        if "ports" in service
    }
    assert ports == {
        "mlflow": ["127.0.0.1:5000:5000"],
        "prefect": ["127.0.0.1:4200:4200"],
        "receive": ["${LDCT_DICOM_ADDRESS:-127.0.0.1}:11112:11112", "127.0.0.1:9107:9107"],
        "review": ["${LDCT_REVIEW_ADDRESS:-127.0.0.1}:8443:8443", "127.0.0.1:9110:9110"],
        **{name: ["127.0.0.1:9108:9108"] for name in ("work", "work-gpu")},
        **{name: ["127.0.0.1:9109:9109"] for name in ("schedule", "schedule-gpu")},
    }
    assert "network_mode" not in COMPOSE.read_text(encoding="utf-8")


def test_every_service_has_a_health_check_and_starts_again(composed) -> None:
    for name, service in composed["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name


def test_a_hospital_s_services_are_a_profile_and_a_gpu_is_another(composed) -> None:
    services = composed["services"]
    assert {n: s["profiles"] for n, s in services.items() if "profiles" in s} == PROFILES
    for name in ("work-gpu", "schedule-gpu"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        assert services[name]["build"]["args"]["TORCH_INDEX"].endswith("/cu130")
        assert services[name]["command"] == services[name.removesuffix("-gpu")]["command"]
    for name in OF_SERVERS:
        for needed in ("mlflow", "prefect"):
            assert services[name]["depends_on"][needed] == {"condition": "service_healthy"}


def test_volumes_belong_to_the_user_that_the_image_runs_as(composed) -> None:
    """A new volume has the owner of the image's folder: the Dockerfile must make each."""
    (made,) = re.findall(r"install --directory ([^\n]*\n[^\n]*)", (ROOT / "Dockerfile").read_text())
    for name, service in composed["services"].items():
        for volume in service.get("volumes", []):
            source, _, place = volume.partition(":")
            assert source in composed["volumes"], "a named one: no folder of the computer"
            assert name == "postgres" or f" {place}" in made, place


def test_readers_log_in_over_tls_by_what_the_documents_say(composed, tmp_path: Path) -> None:
    service = composed["services"]["review"]
    (text,) = re.findall(
        r"```yaml\n(address: .*?)```", (ROOT / "docs" / "servers.md").read_text(), re.S
    )
    (tmp_path / "access.yaml").write_text(text)
    settings = load_access(tmp_path / "access.yaml")
    assert f":{settings.listen.port}:{settings.listen.port}" in service["ports"][0]
    mounted = {row["target"] for row in service["configs"]}
    assert {str(settings.tls.certificate), "/etc/ldct/access.yaml"} == mounted
    assert settings.tls.key.parent == Path("/run/secrets")
    assert settings.tls.key.name in service["secrets"]
    assert f"LDCT_{settings.oidc.secret.env}_TOKEN" in service["secrets"]
    given = typer.main.get_command(app).commands["review"].commands["open"]
    context = given.make_context("open", service["command"][2:])
    assert context.params["access"] == Path("/etc/ldct/access.yaml")
    assert not context.params["browser"]


def test_no_secret_has_a_default_or_stands_in_an_environment(composed) -> None:
    """`docker inspect` shows environments; S3's are empty without S3."""
    used = set()
    for service in composed["services"].values():
        told = service.get("environment", {})
        secret = {n for n in told if re.search("PASSWORD|SECRET|AUTH_STRING", n)}
        assert secret <= {"AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD_FILE"}
        rows = service.get("secrets", [])
        used |= {row if isinstance(row, str) else row["source"] for row in rows}
    assert used == composed["secrets"].keys()
    for name, secret in composed["secrets"].items():
        assert secret == {"environment": name}
    text = commands("secrets")
    assert {
        line.split("=")[0] for line in text.splitlines() if "=$" in line or "=ldct" in line
    } <= used


def test_containers_start_what_the_commands_start(composed) -> None:
    for name in ("mlflow", "prefect"):
        service = composed["services"][name]
        assert service["entrypoint"] == ["with-secrets", "sh", "-euc"]
        (program,) = re.findall(r"^exec (.*) --host 0\.0\.0\.0", script_of(service), re.M)
        assert f"exec {program} --host 127.0.0.1" in commands(name)


def test_mlflow_s_script_writes_its_settings_for_its_user_alone(composed, tmp_path: Path) -> None:
    script = script_of(composed["services"]["mlflow"]).replace("exec mlflow", "echo")
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "LDCT_DB_PASSWORD": "p"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "server --app-name basic-auth --host 0.0.0.0 --port 5000\n"
    written = tmp_path / "mlflow-auth.ini"
    assert written.read_text().splitlines()[-1] == (
        "database_uri = postgresql+pg8000://ldct:p@postgres/mlflow_auth"
    )
    assert written.stat().st_mode & 0o077 == 0


def test_secrets_become_the_variables_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "A_PASSWORD").write_text("s3 'cr\"$et\n")
    environment = {"PATH": os.environ["PATH"], "LDCT_SECRETS": str(tmp_path)}
    command = [WITH_SECRETS, "sh", "-c", 'printf %s "$A_PASSWORD"']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "s3 'cr\"$et"
    none = {**environment, "LDCT_SECRETS": str(tmp_path / "none")}
    assert (
        subprocess.run([WITH_SECRETS, "sh", "-c", "exit 7"], env=none, check=False).returncode == 7
    )


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def healthy(*arguments: str) -> bool:
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, HEALTHY, *arguments], env=env, capture_output=True, check=False
    )
    return done.returncode == 0


def test_a_url_is_healthy_when_it_answers_with_200() -> None:
    with answering(200) as url:
        assert healthy(url)
    with answering(503) as url:
        assert not healthy(url)
    assert not healthy(f"http://127.0.0.1:{free_port()}")
    assert not healthy()


def test_a_part_s_health_is_asked_where_it_answers(composed) -> None:
    for name in PROFILES:
        service = composed["services"][name]
        address = service["command"][service["command"].index("--metrics") + 1]
        host, _, port = address.partition(":")
        assert host == "0.0.0.0"  # within the container, whose port is published on loopback
        assert f"127.0.0.1:{port}:{port}" in service["ports"]
        asked = ["CMD", "healthy", f"http://127.0.0.1:{port}/health"]
        assert service["healthcheck"]["test"] == asked
