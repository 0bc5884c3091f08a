"""`ldct models promote`, `rollback` and `audit`: which version serves, and who decided it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.cli.endings import json_output, show
from flows.cli.options import Device, Json
from pipeline.core.device import compute_on

Name = Annotated[str, typer.Argument(help="A registered model's name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")]


def add_promotion_commands(models: typer.Typer) -> None:
    """Add `ldct models promote`, `rollback` and `audit`."""
    for command in (promote, rollback, audit):
        models.command()(command)


def promote(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to make champion.")],
    reason: Reason = "",
    force: Annotated[
        bool, typer.Option("--force", help="Although checks fail; needs a --reason.")
    ] = False,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Make a version the champion, if it beats the present one on the same test patients.

    Its gate, odd sizes, padding, an export that conforms, and a paired bootstrap over patients.
    """
    compute_on(device)
    from flows.tracking.promotion import Wish, promote
    from flows.tracking.registry import Registry

    done = promote(Registry.default(), Wish(name, version, reason, force))
    if json_:
        json_output.print(done.to_dict())
        return
    for check in done.verdict.checks:
        print(f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.limit}")
    print(f"{name} version {version} is the champion; before it: {done.record.before or 'none'}")


def rollback(name: Name, reason: Reason = "", json_: Json = False) -> None:
    """Make the champion of before the last promotion champion again."""
    from flows.tracking.promotion import rollback
    from flows.tracking.registry import Registry

    done = rollback(Registry.default(), name, reason)
    outcome = f"{name} version {done.version} is the champion again, instead of {done.before}"
    show(asdict(done), json_, lambda: print(outcome))


def audit(name: Name, json_: Json = False) -> None:
    """Every promotion, refusal and rollback of a model."""
    from flows.tracking.promotion import altered_acts, audit, champion_of
    from flows.tracking.registry import Registry

    acts, altered = audit(Registry.default(), name), altered_acts(Registry.default(), name)
    if json_:
        lists = {"acts": acts, "altered": altered}
        json_output.print({"name": name, **{k: [asdict(a) for a in v] for k, v in lists.items()}})
        return
    if not acts:
        champion = champion_of(Registry.default(), name)
        serves = f"version {champion.version}, by its gate" if champion else "none"
        print(f"{name}: no promotion, refusal or rollback yet; champion: {serves}")
    for act in acts:
        note = " (its tag in the registry was changed or removed since)" if act in altered else ""
        print(f"{act.time} {act.act} version {act.version} by {act.by}{note}", act.reason)
