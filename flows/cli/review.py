"""`ldct review`: the page a radiologist opens, what readers decided, and the study's statistics."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import sys
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.endings import HELP, PARTIAL, json_output, show
from flows.cli.options import Json, Metrics
from flows.runtime.progress import JSON_LINES, console
from pipeline.core.errors import ConfigError

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `ldct run` or `ldct apply` wrote, or a store.")
]
Sources = Annotated[
    list[Path] | None,
    typer.Option(
        "--source", help="Where originals or segmentations are, if not in DIR. May be given again."
    ),
]
OPEN = "open"
LOOPBACK = "127.0.0.1"


class _OpensByDefault(TyperGroup):
    """`ldct review DIR` is `ldct review open DIR`: the first word is a folder or a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in HELP:
            args = [OPEN, *args]
        return super().parse_args(ctx, args)


def add_review_commands(app: typer.Typer) -> None:
    """Add `ldct review` and what belongs to it."""
    review = typer.Typer(
        cls=_OpensByDefault,
        no_args_is_help=True,
        help="The review page: `ldct review DIR`. Statistics of a reader study, and the policy.",
    )
    review.command(OPEN)(open_page)
    review.command("plan")(plan)
    review.command("stats")(stats)
    review.command("policy")(policy)
    review.command("audit")(audit)
    review.command("decisions")(take_in_decisions)
    app.add_typer(review, name="review")


def open_page(
    folder: Folder,
    source: Sources = None,
    static: Annotated[
        Path | None,
        typer.Option("--static", help="Write the page with its data here, for a disk, and end."),
    ] = None,
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.")] = 0,
    access: Annotated[
        Path | None,
        typer.Option(
            "--access",
            metavar="YAML",
            help="Readers log in, from their own workstations, over TLS: see docs/review.md.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the link in a browser.")] = True,
    metrics: Metrics = None,
) -> None:
    """Serve the review page of DIR, until Ctrl+C: on this computer only, or with --access.

    Original and denoised side by side, worklist, accept or reject, reader study. The link that
    is printed works once: who opens it has the page. With --access readers log in instead.
    """
    from pipeline.core.pseudonyms import installation_key
    from pipeline.review.worklist import collect

    collection = collect(folder.resolve(), source or [], key=installation_key())
    if static is not None:
        from flows.runtime.progress import StageProgress
        from pipeline.review.static_export import write_disk

        with StageProgress("review page for a disk", unit="files") as stage:
            written = write_disk(collection, static, progress=stage.advance)
        print(static / written)
        return
    if access is None:
        _serve_here(collection, port, metrics, browser=browser and sys.stdout.isatty())
    elif port:
        raise ConfigError("--port goes without --access: give listen.port in its YAML")
    else:
        _serve_readers(collection, access, metrics)


def _serve_here(collection: Any, port: int, metrics: str | None, *, browser: bool) -> None:
    """For one person on this computer, by a link that works once."""
    from pipeline.review.access.own_computer import OwnComputer
    from pipeline.review.server import make_app

    token = secrets.token_urlsafe(32)
    app = make_app(collection, access=OwnComputer(token))
    listening = _listening(LOOPBACK, port)
    address = f"http://{LOOPBACK}:{listening.getsockname()[1]}/?token={token}"
    print(address, flush=True)
    console.print("This link works once and on this computer only. Ctrl+C ends.", highlight=False)
    if browser:
        webbrowser.open(address)
    _serve(app, listening, metrics)


def _serve_readers(collection: Any, settings: Path, metrics: str | None) -> None:
    """For readers who log in, by the address of the YAML."""
    from pipeline.config.credentials import server_context
    from pipeline.review.access.readers import Readers
    from pipeline.review.access.settings import load_access
    from pipeline.review.decisions import audit_of
    from pipeline.review.server import make_app

    access = load_access(settings)
    context = server_context(access.tls) if access.tls.certificate else None
    app = make_app(collection, access=Readers(access, audit_of(collection.root).append))
    listening = _listening(access.listen.host, access.listen.port)
    print(f"{access.origin}/", flush=True)
    console.print("Readers open this address and log in. Ctrl+C ends.", highlight=False)
    _serve(app, listening, metrics, context)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"{host}, port {port} cannot be used: {error.strerror}") from error


def _serve(
    app: Any, listening: socket.socket, metrics: str | None, tls: ssl.SSLContext | None = None
) -> None:
    import uvicorn

    from flows.hospital.review_watch import ReviewWatch
    from flows.hospital.watched import watched

    # No access log: an address holds pseudonyms, and the first one the token. No proxy's headers
    # are believed: who asks is known by a signature alone.
    options: dict[str, Any] = {"access_log": False, "proxy_headers": False, "server_header": False}
    if tls is not None:
        options["ssl_context_factory"] = lambda config, default: tls
    # As all libraries: see flows.runtime.json_log.
    options |= {"log_config": None} if JSON_LINES else {"log_level": "warning"}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    host, port = listening.getsockname()[:2]
    here = LOOPBACK if host == "0.0.0.0" else "::1" if host == "::" else host
    with watched(ReviewWatch(here, port, tls), metrics):
        server.run(sockets=[listening])


def plan(
    folder: Folder,
    readers: Annotated[int | None, typer.Option(help="How many will each read all cases.")] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Largest loss taken for none, points of 1 to 5, or of JAFROC."),
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="Chance to show it where no image is worse.")
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option("--pilot", metavar="DIR", help="How much readings vary is taken from here."),
    ] = None,
    forced_choice: Annotated[
        bool | None,
        typer.Option(
            "--forced-choice/--free-choice", help="Readers must prefer one side, or may neither."
        ),
    ] = None,
    lesions: Annotated[
        Path | None,
        typer.Option(
            "--lesions",
            metavar="YAML",
            help="Readers mark lesions, held to the places given here, in place of scoring pairs.",
        ),
    ] = None,
    source: Sources = None,
    json_: Json = False,
) -> None:
    """Show or set how many readers and cases DIR's reader study needs, before its first reading.

    Below them `ldct review stats` gives no verdict. Without options the plan is only shown.
    """
    from flows.cli.tables.reader_study import READERS, plan_table
    from flows.tracking.reader_study import plan_lesions, planned

    given = {"readers": readers, "margin": margin, "power": power, "forced_choice": forced_choice}
    chosen = {name: value for name, value in given.items() if value is not None}
    root, earlier = folder.resolve(), pilot and pilot.resolve()
    if lesions is None:
        found = planned(root, chosen, earlier)
    else:
        found = plan_lesions(root, lesions, source or [], chosen, earlier)
    cases = {str(number): found.cases_needed(number) for number in READERS}
    answer = {**found.model_dump(), "cases_needed": found.cases_needed(), "cases_by_readers": cases}
    show(answer, json_, lambda: plan_table(found))


def stats(
    folder: Folder,
    model: Annotated[
        str | None, typer.Option("--model", help="Write the result to this model version.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also all readings, or marks, here.")
    ] = None,
    json_: Json = False,
) -> None:
    """Statistics of DIR's reader study: non-inferiority over readers and cases; kappa or JAFROC.

    No verdict below the readers and cases of its plan (`ldct review plan`). --model NAME/VERSION
    writes the result to the registry, where the promotion gate sees it.
    """
    from flows.cli.tables.reader_study import study_table
    from flows.tracking.reader_study import study_result
    from pipeline.core.atomic_files import write_text
    from pipeline.review.study.service import study_csv

    root = folder.resolve()
    result = study_result(root)
    if csv is not None:
        write_text(csv, study_csv(root))
    if model is not None:
        from flows.tracking.reader_study import record_study
        from flows.tracking.registry import Registry

        result["model"] = record_study(Registry.default(), model, result)
    if json_:
        json_output.print(result)
    else:
        study_table(result)


def policy(
    folder: Folder,
    send: Annotated[
        str | None, typer.Option(help="Which series may go to the PACS: any or accepted.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show or set which derived series of DIR may be sent to the PACS."""
    from pydantic import ValidationError

    from pipeline.review.decisions import Policy, read_policy, set_policy

    root = folder.resolve()
    if send is not None:
        try:
            set_policy(root, Policy.model_validate({"send": send}))
        except ValidationError:
            raise ConfigError(f"--send {send}: give any or accepted") from None
    found = read_policy(root).send
    show({"send": found}, json_, lambda: print(f"may be sent to the PACS: {found}"))


def take_in_decisions(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="As the page of a disk saved it: decisions.json.")
    ],
    source: Sources = None,
    json_: Json = False,
) -> None:
    """Take in decisions that were made on a page of `ldct review DIR --static`.

    Each is held to what one made on the page is held to, and to the files that its reader saw. None
    is recorded over one that its reader did not see. Exit code 4 if any was refused.
    """
    from pipeline.core.pseudonyms import installation_key
    from pipeline.review.carried_decisions import REFUSED, read_decisions, take_in
    from pipeline.review.worklist import collect

    carried = read_decisions(file)
    taken = take_in(collect(folder.resolve(), source or [], key=installation_key()), carried)
    refused = [each for each in taken if each.outcome == REFUSED]

    def lines() -> None:
        for each in taken:
            why = f": {each.reason}" if each.reason else ""
            print(f"{each.case}: {each.verdict} by {each.reader}, {each.outcome}{why}")

    show({"decisions": [each.to_dict() for each in taken]}, json_, lines)
    if refused:
        raise typer.Exit(PARTIAL)


def audit(folder: Folder, json_: Json = False) -> None:
    """Every act in DIR's review, and whether the record is whole. Exit code 1 if it is not."""
    from pipeline.review.audit_log import OF_THE_RECORD
    from pipeline.review.decisions import audit_of

    journal = audit_of(folder.resolve())
    records, faults, unsigned = journal.records(), journal.faults(), journal.unsigned()
    if json_:
        broken = [fault.line for fault in faults]
        found = [asdict(fault) for fault in faults]
        json_output.print(
            {"records": records, "broken": broken, "faults": found, "unsigned": unsigned}
        )
    else:
        for record in records:
            facts = {k: v for k, v in record.items() if k not in ("time", "act", *OF_THE_RECORD)}
            print(record["time"], record["act"], json.dumps(facts))
    if records and not journal.is_anchored():
        console.print("no anchor of it here: a cut at its end would not be noticed")
    if unsigned:
        console.print(f"{unsigned} of a version before, not signed", highlight=False)
    for fault in faults:
        console.print(f"not whole: line {fault.line} {fault.reason}", style="red", soft_wrap=True)
    if faults:
        raise typer.Exit(1)
