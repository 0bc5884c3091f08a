"""A night in which everything ends or fails: what is lost, what comes twice, how fast it goes.

    python benchmarks/night.py --series 1000        # as root on Linux, with Orthanc

Generated series of 5 slices of 64 x 64 lie in a real Orthanc. Two `ldct pacs work --forever` ask
it by DICOMweb, and send to it by C-STORE. Every 30 s one of them, in turn, is ended by SIGKILL and
started again, as systemd would; on a machine so busy that it has not ended a step since its start,
once it has. The PACS is ended and started again when a quarter, half and three
quarters of the series are sent, by SIGTERM and once by SIGKILL; the disk of the work folder, a
tmpfs, is full for 20 s when a third and two thirds are. Then everything is counted in Orthanc and
in the ledger. --undisturbed: the same without kills, restarts and full disk.
Writes results/night.json and night.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import requests
import yaml
from growth import write_series

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
MODEL = "swift@pretrained"
SLICES, WORKERS = 5, 2
KILL_EVERY_S, PACS_AWAY_S, DISK_FULL_S = 30.0, 5.0, 20.0
PACS_RESTARTS, DISK_FILLED = (0.25, 0.5, 0.75), (1 / 3, 2 / 3)
DISK_MIB = 1024
USER, PASSWORD = "night", "of-this-benchmark"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
MARKED = "AI DENOISED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--series", type=int, default=60)
    parser.add_argument("--undisturbed", action="store_true")
    parser.add_argument("--minutes", type=float, default=60, help="after which it is given up")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = stack.enter_context(disk_of_its_own(scratch / "disk"))
        found = Night(scratch, disk, arguments.series, disturbed=not arguments.undisturbed).run(
            stack, 60 * arguments.minutes
        )
    path = RESULTS / "night.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known["undisturbed" if arguments.undisturbed else "disturbed"] = found
    known["machine"] = machine.facts()
    path.write_text(json.dumps(known, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(known))
    print(markdown(known))


@contextmanager
def disk_of_its_own(folder: Path) -> Iterator[Path]:
    """A tmpfs, which the work folder can fill without harm to others."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Pacs:
    """An Orthanc on loopback that can be ended and started again with what it has."""

    folder: Path
    port: int
    dicom_port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers."""
        program = shutil.which("Orthanc")
        if program is None:
            raise SystemExit("the program Orthanc is not installed (orthanc, orthanc-dicomweb)")
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self._configuration()))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, str(path)], stdout=log, stderr=log)
        while True:
            with suppress(requests.RequestException):
                self.ask("/dicom-web/studies?limit=1")
                return
            if self.process.poll() is not None:
                raise SystemExit(f"Orthanc ended at its start: see {self.folder / 'log'}")
            time.sleep(0.2)

    def end(self, how: signal.Signals) -> None:
        """By a signal; returns once it has ended."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait()

    def ask(self, path: str, content: bytes | None = None) -> Any:
        """Its own REST interface. content: what is posted; None: GET."""
        answer = requests.request(
            "GET" if content is None else "POST",
            f"http://127.0.0.1:{self.port}{path}",
            auth=(USER, PASSWORD),
            data=content,
            timeout=120,
        )
        answer.raise_for_status()
        return answer.json()

    def _configuration(self) -> dict[str, Any]:
        return {
            "Name": "NIGHT",
            "HttpPort": self.port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowStore": True,
            "OverwriteInstances": False,
            "Plugins": [PLUGIN],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }


@dataclass
class Night:
    """One night: what is started, ended and filled, and what is found in the morning."""

    scratch: Path
    disk: Path
    series: int
    disturbed: bool
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    log_begins: dict[int, int] = field(default_factory=dict)
    killed: int = 0
    restarts: int = 0
    filled: int = 0
    worker_s: float = 0.0

    def __post_init__(self) -> None:
        self.work = self.disk / "work"
        self.hospital = self.scratch / "hospital.yaml"
        self.pacs = Pacs(self.scratch / "pacs", free_port(), free_port())
        (self.scratch / "key").write_bytes(b"k" * 32)

    def run(self, stack: ExitStack, longest_s: float) -> dict[str, Any]:
        stack.callback(self._end_all)
        self.pacs.start()
        self._fill_the_pacs()
        self._write_hospital()
        began = time.time()
        subprocess.run(self._ldct("pacs", "pull"), env=self._environment(), check=True)
        pulled = time.time()
        self.workers = [self._start_worker(number) for number in range(WORKERS)]
        self._until_done(pulled + longest_s)
        codes = self._end_workers()
        return {**self._counted(), "exit_codes": codes, **self._times(began, pulled)}

    def _fill_the_pacs(self) -> None:
        write_series(self.scratch / "in", self.series, slices=SLICES)
        for path in sorted((self.scratch / "in").rglob("*.dcm")):
            self.pacs.ask("/instances", path.read_bytes())
        print(f"{self.series} series are in the PACS", flush=True)

    def _write_hospital(self) -> None:
        login = self.scratch / "login.yaml"
        login.write_text(yaml.safe_dump({"user": USER, "password": PASSWORD}))
        login.chmod(0o600)
        url = f"http://127.0.0.1:{self.pacs.port}/dicom-web"
        entity = {"host": "127.0.0.1", "port": self.pacs.dicom_port, "called": "ORTHANC"}
        described = {
            "model": MODEL,
            "work": str(self.work),
            "source": {"url": url, "login": {"file": str(login)}},
            "rules": [{"name": "all"}],
            "send": {"dimse": entity},
            "settle_s": 0,
        }
        self.hospital.write_text(yaml.safe_dump(described))

    def _ldct(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ldct", *words, str(self.hospital)]

    def _environment(self) -> dict[str, str]:
        own = {
            "LDCT_KEY_FILE": str(self.scratch / "key"),
            "LDCT_CACHE_DIR": str(self.scratch / "cache"),
            "LDCT_LOG": "json",
            "PREFECT_HOME": str(self.scratch / "prefect"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **own}

    def _log_of(self, number: int) -> Path:
        return self.scratch / f"worker-{number}.log"

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        command = [*self._ldct("pacs", "work"), "--forever"]
        with self._log_of(number).open("ab") as log:
            self.log_begins[number] = log.tell()
            return subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)

    def _until_done(self, latest: float) -> None:
        next_kill, last_told = time.time() + KILL_EVERY_S, 0.0
        while (counts := self._counts())["sent"] + counts["dead"] < self.series:
            time.sleep(1)
            now = time.time()
            if now > latest:
                print("given up", flush=True)
                return
            if now - last_told > 30:
                last_told = now
                print(f"{now - latest:.0f} {dict(counts)}, {self.killed} killed", flush=True)
            if not self.disturbed:
                continue
            if now >= next_kill and self._has_worked(self.killed % WORKERS):
                self._kill_a_worker()
                next_kill = now + KILL_EVERY_S
            self._disturb(counts["sent"] / self.series)

    def _disturb(self, share: float) -> None:
        if self.restarts < len(PACS_RESTARTS) and share >= PACS_RESTARTS[self.restarts]:
            self.pacs.end(signal.SIGKILL if self.restarts == 1 else signal.SIGTERM)
            time.sleep(PACS_AWAY_S)
            self.pacs.start()
            self.restarts += 1
        if self.filled < len(DISK_FILLED) and share >= DISK_FILLED[self.filled]:
            fill(self.disk / "filler")
            time.sleep(DISK_FULL_S)
            (self.disk / "filler").unlink()
            self.filled += 1

    def _has_worked(self, number: int) -> bool:
        """Whether a worker has ended a step since it was started."""
        with self._log_of(number).open("rb") as log:
            log.seek(self.log_begins[number])
            return b'"event": "step"' in log.read()

    def _kill_a_worker(self) -> None:
        number = self.killed % WORKERS
        self.workers[number].kill()
        if self._wait(self.workers[number]) != -signal.SIGKILL:
            raise SystemExit(f"worker {number} had ended by itself: see its log")
        self.workers[number] = self._start_worker(number)
        self.killed += 1

    def _end_workers(self) -> list[int]:
        for worker in self.workers:
            worker.terminate()
        codes = [self._wait(worker) for worker in self.workers]
        self.workers = []
        return codes

    def _wait(self, worker: subprocess.Popen[bytes]) -> int:
        """Until it has ended: its exit code. Its processor time is noted."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = worker.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.worker_s += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return code

    def _end_all(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        if self.pacs.process is not None and self.pacs.process.poll() is None:
            self.pacs.end(signal.SIGTERM)

    def _counts(self) -> Counter[str]:
        with ledger(self.work) as database:
            rows = database.execute("SELECT state, count(*) FROM work GROUP BY state")
            return Counter(dict(rows.fetchall()))

    def _counted(self) -> dict[str, Any]:
        """Lost: sources without a whole derived series. Doubled: derived series beyond one of a
        source, and pieces of work that were sent more than once."""
        rows = self.pacs.ask("/series?expand")
        derived: Counter[str] = Counter()
        whole: set[str] = set()
        for row in rows:
            if row["MainDicomTags"].get("SeriesDescription", "").startswith(MARKED):
                derived[row["ParentStudy"]] += 1
                if len(row["Instances"]) == SLICES:
                    whole.add(row["ParentStudy"])
        with ledger(self.work) as database:
            sent = database.execute(
                "SELECT id, count(*) FROM event WHERE state = 'sent' GROUP BY id"
            ).fetchall()
        states = self._counts()
        return {
            "series": self.series,
            "slices": SLICES,
            "model": MODEL,
            "killed": self.killed,
            "pacs_restarts": self.restarts,
            "disk_filled": self.filled,
            "lost": self.series - len(whole),
            "doubled": sum(number - 1 for number in derived.values())
            + sum(times - 1 for _, times in sent),
            "images": sum(len(row["Instances"]) for row in rows),
            "ledger": dict(states),
            "partial": sum(1 for _ in self.work.rglob(".partial*")),
        }

    def _times(self, began: float, pulled: float) -> dict[str, float]:
        with ledger(self.work) as database:
            first, last = database.execute(
                "SELECT min(at), max(at) FROM event WHERE state = 'sent'"
            ).fetchone()
        minutes = (last - pulled) / 60
        return {
            "pull_s": round(pulled - began, 1),
            "first_result_s": round(first - pulled, 1),
            "minutes": round(minutes, 2),
            "series_a_minute": round(self.series / minutes, 1),
            "processor_s_a_series": round(self.worker_s / self.series, 2),
        }


@contextmanager
def ledger(work: Path) -> Iterator[sqlite3.Connection]:
    """Only read."""
    database = sqlite3.connect(f"file:{work / 'ledger.db'}?mode=ro", uri=True, timeout=60)
    try:
        yield database
    finally:
        database.close()


def fill(path: Path) -> None:
    """Write until there is no space."""
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1024 * 1024))
    with suppress(OSError), path.open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"Series of {SLICES} slices of 64 x 64 in Orthanc, {MODEL}, {WORKERS} workers; first result"
        f" and minutes from the workers' start; processor time of the workers, their starts"
        f" included. {machine.described(found['machine'])}",
        "",
        "| night | series | workers killed | PACS restarted | disk full | lost | doubled | dead |"
        " first result, s | minutes | series a minute | processor s a series |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("undisturbed", "disturbed"):
        if row := found.get(name):
            lines.append(
                f"| {name} | {row['series']} | {row['killed']} | {row['pacs_restarts']} |"
                f" {row['disk_filled']} | {row['lost']} | {row['doubled']} |"
                f" {row['ledger'].get('dead', 0)} | {row['first_result_s']:.0f} |"
                f" {row['minutes']:.1f} | {row['series_a_minute']:.1f} |"
                f" {row['processor_s_a_series']:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
