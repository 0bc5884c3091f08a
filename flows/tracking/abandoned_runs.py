"""Runs of MLflow whose process was killed: found at the next start, and ended as killed.

A run carries the mark of its process. Only a process of this computer, and of this container, can
be looked for: all others' runs are left alone.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import mlflow

TAG = "ldct.process"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"


@dataclass(frozen=True)
class ProcessMark:
    """One process for ever: the computer, its boot, the container's process numbers, the number,
    and when it was started (clock ticks since the boot, proc(5))."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> ProcessMark | None:
        """This process; None where the system does not say, as without /proc."""
        pid = os.getpid()
        try:
            boot = _BOOT.read_text(encoding="ascii").strip()
            return cls(socket.gethostname(), boot, os.readlink(_NAMESPACE), pid, _started(pid))
        except (OSError, ValueError, IndexError):
            return None

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """From a tag; None for any other text."""
        words = text.split()
        if len(words) != 5 or not words[3].isdigit():
            return None
        return cls(words[0], words[1], words[2], int(words[3]), words[4])

    def __str__(self) -> str:
        return f"{self.host} {self.boot} {self.namespace} {self.pid} {self.started}"

    def is_gone(self, seen_by: ProcessMark) -> bool:
        """Whether the process has certainly ended, as far as another one can see."""
        if self.host != seen_by.host:
            return False
        if self.boot != seen_by.boot:
            return True
        if self.namespace != seen_by.namespace:
            return False
        try:
            return _started(self.pid) != self.started
        except (OSError, IndexError):
            return True


def _started(pid: int) -> str:
    """Field 22 of /proc/PID/stat; the name in brackets before it may hold spaces."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()[19]


def end_abandoned(client: mlflow.MlflowClient) -> int:
    """Mark as KILLED each run that is RUNNING and whose process has ended; returns how many."""
    here = ProcessMark.here()
    experiments = [row.experiment_id for row in client.search_experiments()]
    if here is None or not experiments:
        return 0
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    ended = 0
    for run in running:
        mark = ProcessMark.parse(run.data.tags.get(TAG, ""))
        if mark is not None and mark.is_gone(here):
            client.set_terminated(run.info.run_id, "KILLED")
            ended += 1
    return ended
