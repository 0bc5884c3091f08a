"""`ldct pacs`, `ldct status`, `ldct retry`: a hospital's series, from its PACS and back to it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.endings import PARTIAL, json_output, show
from flows.cli.options import Device, Hospital, Json, Metrics
from flows.runtime.progress import console, log
from pipeline.core.device import compute_on
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.pacs.incoming.query import CandidateSeries
    from pipeline.pacs.incoming.receiver import Swept
    from pipeline.pacs.settings.hospital import Pacs
    from pipeline.pacs.work.item import WorkItem


def add_pacs_commands(app: typer.Typer) -> None:
    """Add `ldct pacs ...`, `status` and `retry`."""
    pacs = typer.Typer(
        no_args_is_help=True,
        help="Series from a hospital's PACS through a model, and back to it.",
    )
    for command in (pull, work, receive, release, accession, alert, module):
        pacs.command()(command)
    app.add_typer(pacs, name="pacs")
    app.command()(status)
    app.command()(retry)


def pull(
    hospital: Hospital,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what matches and why; change nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Ask the source for series that the rules want, and note them for `ldct pacs work`."""
    from flows.hospital.pull import pull_series
    from pipeline.core.pseudonyms import installation_key
    from pipeline.pacs.settings.hospital import load_pacs

    settings = load_pacs(hospital)
    candidates, counts = pull_series(settings, dry_run=dry_run)
    key = installation_key()
    if json_:
        shown = [{**one.to_dict(key), "send": one.destinations(settings)} for one in candidates]
        json_output.print({**asdict(counts), "series": shown})
        return
    if dry_run:
        _why(candidates, settings, key)
    noted = "nothing noted (--dry-run)" if dry_run else f"{counts.new} new in the ledger"
    print(f"{counts.asked} series found, {counts.matched} match, {noted}")
    if counts.unreadable:
        print(f"{counts.unreadable} files or folders of the source cannot be read")


def work(
    hospital: Hospital,
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on looking for work until interrupted.")
    ] = False,
    metrics: Metrics = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Retrieve, denoise, check, send back and count whatever is due.

    May run several times at once, and be killed at any point: a series is done once in effect.
    Exit code 4 where dead letters wait for a person.
    """
    compute_on(device)
    from flows.hospital.alerts import alerting
    from flows.hospital.auditing import auditing
    from flows.hospital.ledger_status import log_step
    from flows.hospital.prometheus import WorkerMetrics
    from flows.hospital.watched import watched
    from flows.hospital.work import work_flow
    from pipeline.pacs.settings.hospital import load_pacs
    from pipeline.pacs.work.item import State

    settings = load_pacs(hospital)
    part = WorkerMetrics(settings)

    def on_step(work: WorkItem) -> None:
        part.on_step(work)
        log_step(work)

    with (
        watched(part, metrics),
        alerting(settings, part.registry),
        auditing(settings, part.registry, "ldct pacs work"),
    ):
        report = work_flow(settings, on_step, forever=forever, on_poll=part.on_poll)
    if json_:
        json_output.print(report)
    else:
        _counts(report["counts"])
    if dead := report["counts"][State.DEAD]:
        console.print(f"{dead} failed for good: see `ldct status`, then `ldct retry`", style="red")
        raise typer.Exit(PARTIAL)


def receive(hospital: Hospital, metrics: Metrics = None) -> None:
    """Take series by C-STORE until interrupted, and note them for `ldct pacs work`."""
    from flows.hospital.alerts import alerting
    from flows.hospital.auditing import auditing
    from flows.hospital.receive import receive as receive_series
    from flows.hospital.receiver_watch import ReceiverWatch
    from flows.hospital.watched import watched
    from pipeline.pacs.settings.hospital import load_pacs

    settings = load_pacs(hospital)
    local = settings.receive
    console.print(f"{local.title} listens on {local.host}:{local.port}", highlight=False)
    part = ReceiverWatch(settings)
    with (
        watched(part, metrics),
        alerting(settings, part.registry),
        auditing(settings, part.registry, "ldct pacs receive"),
    ):
        receive_series(settings, _log_received, part)


def release(
    hospital: Hospital,
    names: Annotated[
        list[str], typer.Argument(help="Of the work that is held; see `ldct status`.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why it may be sent; it is kept.")],
) -> None:
    """Let go what was held back for being unlike the model's training data."""
    from flows.hospital.auditing import auditing
    from flows.hospital.ledger_status import log_step, release_work
    from pipeline.pacs.settings.hospital import load_pacs

    settings = load_pacs(hospital)
    with auditing(settings):
        for work in release_work(settings, names, reason):
            log_step(work)


def accession(
    hospital: Hospital,
    reason: Annotated[str, typer.Option("--reason", help="Why you need to know; it is kept.")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Of the work; all that is not done by default.")
    ] = None,
    json_: Json = False,
) -> None:
    """Which accession number and study work is of, for staff who may know; who asked is kept.

    Only as the account that runs ldct, with the installation's key, and not into a service's log.
    """
    from flows.hospital.endpoints import open_source
    from pipeline.pacs.settings.hospital import load_pacs
    from pipeline.pacs.work.accession import studies_of_work

    _require_no_log()
    settings = load_pacs(hospital)
    found = studies_of_work(settings.work, names or [], reason, open_source(settings))
    if json_:
        json_output.print({"work": [each.to_dict() for each in found]})
        return
    for each in found:
        number = each.accession_number or "(none)"
        print(f"{each.work} {each.state}: accession {number}, from {each.found_in}")
        print(f"  study {each.study_uid}, series {each.series_uid}")


def _require_no_log() -> None:
    """Raises ConfigError where what is printed would be kept: in the journal of systemd, whose
    services are given its socket (systemd.exec(5)), or as the main process of a container."""
    stdout = os.fstat(1)
    if os.environ.get("JOURNAL_STREAM") == f"{stdout.st_dev}:{stdout.st_ino}":
        raise ConfigError("this would go into the journal: run it at a terminal")
    if os.getpid() == 1:
        raise ConfigError(
            "this would go into the container's log: `docker compose exec work ldct pacs accession`"
        )


def alert(hospital: Hospital) -> None:
    """Send a test by every channel of `alerts`. Exit code 1 where one does not take it."""
    from flows.hospital.alerts import send_test
    from pipeline.core.sanitise import printable_line
    from pipeline.pacs.messages.alert_channels import channels
    from pipeline.pacs.settings.hospital import load_pacs

    alerts = load_pacs(hospital).alerts
    if alerts is None:
        raise typer.BadParameter("the hospital's YAML has no `alerts`; see docs/operations.md")
    failed = False
    for channel in channels(alerts):
        try:
            send_test(alerts, channel)
            print(f"{channel}: sent")
        except Exception as error:  # whatever a server answers, the other is tried
            failed = True
            print(f"{channel}: {type(error).__name__}: {printable_line(str(error))}")
    if failed:
        raise typer.Exit(1)


def module(
    in_: Annotated[
        Path | None, typer.Option("--in", help="By default MERCURE_IN_DIR of the environment.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="By default MERCURE_OUT_DIR of the environment."),
    ] = None,
    device: Device = None,
) -> None:
    """One task of a router such as mercure: images and task.json in, images and result.json out."""
    compute_on(device)
    from flows.hospital.mercure_module import run_task

    folders = in_ or os.environ.get("MERCURE_IN_DIR"), out or os.environ.get("MERCURE_OUT_DIR")
    if not folders[0] or not folders[1]:
        raise typer.BadParameter("give --in and --out, or MERCURE_IN_DIR and MERCURE_OUT_DIR")
    result = run_task(Path(folders[0]), Path(folders[1]))
    json_output.print(result)


def status(
    hospital: Hospital,
    all_: Annotated[
        bool, typer.Option("--all", help="All open work, not only the oldest of each state.")
    ] = False,
    json_: Json = False,
) -> None:
    """What ran and was skipped, what was done, what is due, what failed and why."""
    from flows.hospital.status import hospital_status, page
    from pipeline.pacs.settings.hospital import load_pacs

    report = hospital_status(hospital, load_pacs(hospital), everything=all_)
    show(report.to_dict(), json_, lambda: print(page(report)))


def retry(
    hospital: Hospital,
    names: Annotated[
        list[str] | None, typer.Argument(help="Of the work, as in `ldct status`; all by default.")
    ] = None,
    json_: Json = False,
) -> None:
    """Give what failed another chance: dead letters too, each where it stopped."""
    from flows.hospital.ledger_status import log_step, retry_work
    from pipeline.pacs.settings.hospital import load_pacs

    revived = retry_work(load_pacs(hospital), names or [])
    if json_:
        json_output.print({"retried": [work.to_dict() for work in revived]})
        return
    for work in revived:
        log_step(work)
    print(f"{len(revived)} due again")


def _log_received(swept: Swept) -> None:
    from pipeline.pacs.settings.rules import WRONG_CLOCK

    said = [f"{swept.added} series complete"]
    if swept.unmatched:
        said.append(f"{swept.unmatched} match no rule (kept in `unmatched`)")
    if swept.cut:
        said.append(f"{swept.cut} studies taken as they are: their sending broke off")
    if swept.wrong_clock:
        said.append(f"{swept.wrong_clock} have {WRONG_CLOCK}")
    log("received", ", ".join(said), asdict(swept))


def _counts(counts: dict[str, int]) -> None:
    parts = [f"{number} {state}" for state, number in counts.items() if number]
    print(", ".join(parts) or "no work yet: `ldct pacs pull`, or `ldct pacs receive`")


def _why(candidates: list[CandidateSeries], settings: Pacs, key: bytes) -> None:
    for candidate in candidates:
        shown = candidate.to_dict(key)
        to = ", ".join(candidate.destinations(settings))
        outcome = f"matches {candidate.rule}, to {to}" if candidate.rule else "no rule matches"
        print(f"{shown['series']}, {shown['images']} images: {outcome}")
        for match in candidate.matches:
            print(f"  rule {match.rule}")
            for reason in match.reasons:
                print(
                    f"    {'yes' if reason.met else 'NO '} {reason.condition}: {reason.found_text}"
                )
