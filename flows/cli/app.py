"""`ldct`: the command line. A contract, since scripts rely on it: see docs/commands.md.

Results go to stdout (one JSON object with --json), progress and messages to stderr. Heavy
imports happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from flows.cli.compression import add_compression_commands
from flows.cli.endings import HELP, end, end_as_typer_did, fail, json_output
from flows.cli.evaluate import add_evaluate_command
from flows.cli.fetch import fetch
from flows.cli.latent import add_latent_commands
from flows.cli.models import add_promotion_commands
from flows.cli.models_export import add_deploy_command
from flows.cli.models_import import add_import_command
from flows.cli.models_list import add_list_commands
from flows.cli.options import (
    Config,
    Denoiser,
    Device,
    HoldOnFailedGate,
    Json,
    LowDose,
    Out,
    Settings,
    StoreFolder,
    import_with_server_warmup,
    require_source,
    writable,
)
from flows.cli.pacs import add_pacs_commands
from flows.cli.qualify import add_qualify_command
from flows.cli.review import add_review_commands
from flows.cli.schedule import schedule
from flows.cli.series import add_series_commands
from flows.runtime.json_log import use_json_everywhere
from flows.runtime.lost_signals import raise_lost_signals_again
from flows.runtime.progress import JSON_LINES, verbosity
from pipeline.core.crash_file import crash_file
from pipeline.core.device import compute_on
from pipeline.core.errors import LdctError, is_disk_full, report_of
from pipeline.core.library_warnings import catch_library_warnings
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.versions import SOFTWARE, VERSION

#: Options of every command, anywhere on the line.
QUIET, VERBOSE = ("-q", "--quiet"), ("-v", "--verbose")
#: What typer exits with after Ctrl+C.
INTERRUPTED = 128 + signal.SIGINT


class _Commands(TyperGroup):
    """Options that hold for every command may stand anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Those options first, where they are looked for; what follows `--` is left alone."""
        end = args.index("--") if "--" in args else len(args)
        early = [word for word in args[:end] if word in (*QUIET, *VERBOSE)]
        others = [word for word in args[:end] if word not in (*QUIET, *VERBOSE)]
        return super().parse_args(ctx, [*early, *others, *args[end:]])


app = typer.Typer(
    name="ldct",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": list(HELP)},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{SOFTWARE} {VERSION}")
        raise typer.Exit


@app.callback()
def ldct(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option(*QUIET, help="Of progress and messages only what went wrong.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option(*VERBOSE, help="The traceback of a failure too; it may hold names.")
    ] = False,
) -> None:
    """Low-dose CT: DICOM series in, denoised DICOM series out, in physical units."""
    verbosity.quiet, verbosity.verbose = quiet, verbose


models_app = typer.Typer(help="The registry of models.", invoke_without_command=True)
app.add_typer(models_app, name="models")


@app.command()
def run(
    config: Config,
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="A folder tree of DICOM files; none for a run on pictures it names."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", help="Measure this model too on the held-back patients."),
    ] = None,
    denoiser: Denoiser = None,
    hold_on_failed_gate: HoldOnFailedGate = False,
    low_dose: LowDose = True,
    set_: Settings = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """The whole way on your data: ingest, degrade, train, evaluate, register, apply, export.

    Ends with report.json, report.html and the derived series in OUT, and the model in the
    registry (./mlruns, or MLFLOW_TRACKING_URI). Exit code 5 when the model did not pass its gate:
    its series are marked; 4 when some input was quarantined.
    """
    compute_on(device)
    from pipeline.config.load import load_config

    settings = load_config(config, set_)
    if data is not None:
        require_source(data)
    _finish_run(
        settings,
        data,
        out,
        json_,
        compare=compare or [],
        denoiser=denoiser,
        hold_on_failed_gate=hold_on_failed_gate,
        low_dose=low_dose,
    )


@app.command()
def demo(
    out: Out = Path("demo"),
    hold_on_failed_gate: HoldOnFailedGate = False,
    low_dose: LowDose = True,
    set_: Settings = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """The whole way on synthetic patients, in under 5 minutes on 2 cores; needs no data.

    Writes CT series of an anthropomorphic phantom to OUT/patients and runs the main job.
    """
    compute_on(device)
    from flows.demo import PRETRAINED, demo_config, write_patients

    settings = demo_config(set_)
    writable(out)
    write_patients(out / "patients")
    _finish_run(
        settings,
        out / "patients",
        out,
        json_,
        compare=[PRETRAINED],
        hold_on_failed_gate=hold_on_failed_gate,
        low_dose=low_dose,
    )


def _finish_run(settings: Any, data: Path | None, out: Path, json_: bool, **asked: Any) -> None:
    """asked: what else the request says (flows.run.Request)."""
    from pipeline.training.start_check import check_run

    check_run(settings)  # before the imports below, which take longer than most mistakes deserve
    writable(out)
    with import_with_server_warmup():
        from flows.cli.tables.base import run_table
        from flows.run import Request, main_job
        from flows.runtime.private_errors import run_flow
        from flows.tracking.registry import Registry

    source = str(data) if data else None
    request = str(Request(settings.resolved(), source, str(out), **asked).save())
    report = run_flow(lambda: main_job(request))
    if json_:
        json_output.print(report)
    else:
        run_table(report, out, Registry.default().location)
    end(report)


@app.command()
def train(
    config: Config,
    store: StoreFolder,
    set_: Settings = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Train on a store, evaluate on its held-back patients, and register the model.

    Exit code 5 when it did not pass its gate.
    A training that was interrupted goes on from its last checkpoint in the store. Over several
    GPUs or computers: torchrun --nproc-per-node 2 -m flows.cli.app train CONFIG --store DIR.
    """
    compute_on(device)
    from pipeline.config.load import load_config
    from pipeline.tasks.training_job import join_as_worker

    if join_as_worker():
        return

    from pipeline.training.start_check import check_run

    settings = load_config(config, set_)
    check_run(settings)
    with import_with_server_warmup():
        from flows.cli.tables.base import ingest_table, model_line
        from flows.cli.tables.tasks import task_figures
        from flows.commands import train_flow

    result = train_flow(settings, store)
    if json_:
        json_output.print(result)
    else:
        ingest_table(result)
        task_figures(result["task"], result["metrics"])
        model_line(result["model"], result["gate"])
    end(result)


add_list_commands(models_app)
add_deploy_command(models_app)
add_import_command(models_app)
add_evaluate_command(app)
add_qualify_command(app)
add_series_commands(app)
add_review_commands(app)
add_latent_commands(app)
add_compression_commands(app)
add_pacs_commands(app)
add_promotion_commands(models_app)
app.command()(schedule)
app.command()(fetch)


def main() -> None:
    """Run the command; every failure is one line on stderr, with --json an object on stdout too,
    and an exit code."""
    # Before torch starts threads: each would have a heap of its own, and keep it.
    keep_freed_memory()
    catch_library_warnings()
    raise_lost_signals_again()
    use_json_everywhere()
    # Or Python looks for cycles among all that was imported as it ends: 2 s.
    atexit.register(gc.freeze)
    with json_output.only(sys.argv[1:]):
        try:
            if JSON_LINES:  # typer would draw a wrong use of the command line as a box
                sys.exit(app(standalone_mode=False))
            app()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            _end(error)


def _end(error: BaseException) -> NoReturn:
    report = report_of(error)
    if isinstance(error, LdctError):
        fail(str(error), error.exit_code, report=report)
    if isinstance(error, KeyboardInterrupt) or getattr(error, "code", None) == INTERRUPTED:
        fail("interrupted; a training goes on from its last checkpoint", 1, report=report)
    if isinstance(error, SystemExit):
        end_as_typer_did(error)
    if wrong_use := getattr(error, "format_message", None):  # typer's own errors
        fail(wrong_use(), getattr(error, "exit_code", 1), report=report)
    if is_disk_full(error):
        fail("the disk is full; what was being written has been removed", 1, report=report)
    if verbosity.verbose and not JSON_LINES:  # a traceback may hold names: it stays off the log
        traceback.print_exception(error)
    fail(f"{type(error).__name__}: {error}", 1, details=crash_file(error), report=report)


if __name__ == "__main__":
    main()
