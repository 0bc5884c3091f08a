"""`ldct schedule`: a hospital's jobs at their times."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.endings import json_output
from flows.cli.options import Device, Hospital, Json, Metrics
from flows.runtime.progress import console
from pipeline.core.device import compute_on


def schedule(
    hospital: Hospital,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the next times; run nothing.")
    ] = False,
    metrics: Metrics = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Run the nightly work, the retries and the training at their times, until interrupted.

    On the Prefect server of PREFECT_API_URL, or one that is started on this computer.
    """
    compute_on(device)
    from flows.hospital.deployments import next_run_times, serve_jobs
    from pipeline.config.schedule import required
    from pipeline.pacs.settings.hospital import load_pacs

    settings = load_pacs(hospital)
    chosen = required(settings.schedule)
    times = next_run_times(chosen)
    if json_:
        json_output.print({"time_zone": chosen.time_zone, "next": times})
    else:
        for job, dates in times.items():
            console.print(f"{job}: {', '.join(dates)}, ...", highlight=False)
    if not dry_run:
        serve_jobs(hospital, settings, metrics)
