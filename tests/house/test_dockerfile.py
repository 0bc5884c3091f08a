"""The Dockerfile builds: its COPY and RUN lines replayed in a clean folder, as far as that goes.

No Docker runs in CI. A clean clone less what .dockerignore names is copied as the lines say, the
page is built where npm is, and the software is installed into a fresh environment. Packages come
from this one; that the lock installs, `make install` shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from helpers.clean_copy import ROOT, clean_copy

from pipeline.review.assets import FILES

#: What a RUN line begins with, of those that need the image's root, its index or a GPU.
NOT_HERE = ("useradd", "pip install --no-cache-dir --no-deps --require-hashes", "test ")


def ignored(path: PurePosixPath) -> bool:
    """As .dockerignore says: a pattern takes what is below it too, `**/` any folder before it."""
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    names = [path, *path.parents][:-1]
    return any(
        fnmatch(str(name), pattern) or fnmatch(f"./{name}", f"*/{pattern.removeprefix('**/')}")
        if pattern.startswith("**/")
        else str(name) == pattern
        for pattern in patterns
        for name in names
    )


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each line, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


@dataclass
class Replay:
    """An image's files below a folder, stage after stage."""

    context: Path
    root: Path
    work: Path = Path("/")
    stages: dict[str, Path] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def inside(self, place: str) -> Path:
        """Where a path of the image lies here."""
        return self.stages[self.stage] / (self.work / place).relative_to("/")

    def line(self, instruction: str, rest: str) -> None:
        match instruction:
            case "FROM":
                self.stage = rest.partition(" AS ")[2] or "final"
                self.stages[self.stage], self.work = self.root / self.stage, Path("/")
            case "WORKDIR":
                self.work = self.work / rest
                self.inside(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(rest)
            case "RUN":
                self.run(rest)

    def copy(self, rest: str) -> None:
        options = dict(re.findall(r"--(\w+)=(\S+)", rest))
        *sources, target = re.sub(r"--\w+=\S+ ", "", rest).split()
        base = self.stages[options["from"]] if "from" in options else self.context
        for source in sources:
            found, to = base / source.lstrip("/"), self.inside(target)
            assert found.exists(), f"COPY {rest}: {source} is not there"
            if found.is_dir():
                shutil.copytree(found, to, dirs_exist_ok=True)
            else:
                to = to / found.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, to)
                to.chmod(int(options.get("chmod", "644"), base=8))

    def run(self, rest: str) -> None:
        if rest.startswith(NOT_HERE):
            return
        if rest.startswith("npm") and shutil.which("npm") is None:
            for name in FILES:
                (self.inside("..") / "built").mkdir(exist_ok=True)
                (self.inside("..") / "built" / name).write_text("built elsewhere")
            return
        pip = f"{sys.executable} -m pip --python {self.python}"
        done = subprocess.run(
            rest.replace("pip install", f"{pip} install"),
            shell=True, cwd=self.inside("."), capture_output=True, text=True, check=False,
            env={**os.environ, "PIP_IGNORE_INSTALLED": "1"},
        )  # fmt: skip
        assert done.returncode == 0, f"RUN {rest}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        self.ran.append(rest)

    @property
    def python(self) -> Path:
        return self.root / "environment" / "bin" / "python"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    root = tmp_path_factory.mktemp("image")
    for name in clean_copy(root / "context"):
        if ignored(PurePosixPath(name)):
            (root / "context" / name).unlink()
    command = [sys.executable, "-m", "venv", "--without-pip", root / "environment"]
    subprocess.run(command, check=True)
    (packages,) = (root / "environment").glob("lib/python3*/site-packages")
    needed = [path for path in sys.path if path.endswith("-packages")]
    (packages / "needed.pth").write_text("\n".join(needed), encoding="utf-8")
    replay = Replay(root / "context", root)
    for instruction, rest in instructions():
        replay.line(instruction, rest)
    return replay


def test_the_context_is_without_what_no_image_needs(image: Replay) -> None:
    files = [path for path in image.context.rglob("*") if path.is_file()]
    there = {path.relative_to(image.context).parts[0] for path in files}
    assert {"ldct", "pipeline", "flows", "configs", "pretrained", "setup.py", "containers"} <= there
    assert there.isdisjoint({".git", ".venv", "tests", "mlruns", "out", "demo"})
    for name in ("pipeline/core/__pycache__/x.pyc", "pipeline/review/built/app.js"):
        assert ignored(PurePosixPath(name))


def test_the_image_has_the_software_whole(image: Replay) -> None:
    assert image.ran[-1].startswith("pip install"), "the software was not installed"
    entry = [rest for instruction, rest in instructions() if instruction == "ENTRYPOINT"]
    assert entry == ['["ldct"]']
    ldct = image.python.with_name("ldct")
    command = [ldct, "run", "denoise_redcn", "--out", "out"]
    done = subprocess.run(
        command, cwd=image.root, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "did you mean denoise_redcnn?" in done.stderr, "configurations are there, by name"
    (packages,) = (image.root / "environment").glob("lib/python3*/site-packages")
    built = [f"pipeline/review/built/{name}" for name in FILES]
    for name in ("pretrained/swift/weights.safetensors", *built):
        assert (packages / name).stat().st_size > 10


def test_volumes_belong_to_the_user_that_the_image_runs_as() -> None:
    told = dict(instructions())
    assert told["USER"] == "ldct"
    (made,) = (rest for what, rest in instructions() if what == "RUN" and "useradd" in rest)
    assert "--uid 1000 ldct" in made
    assert "install --directory --owner ldct --group ldct --mode 700" in made


def test_the_python_is_the_one_of_the_lock() -> None:
    """An environment for the test of this file is of the running Python: they must be one."""
    (version,) = re.findall(r"^FROM python:(\S+)-slim$", (ROOT / "Dockerfile").read_text(), re.M)
    assert version == "3.11" == sysconfig.get_python_version()
