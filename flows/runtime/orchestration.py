"""Whether Prefect takes part: in a flow run, where an API is configured, or a user asks for it.

A command of one shot, such as `ldct apply`, needs no server of its own: without a configured API
its stages run as plain functions, and Prefect, whose import and temporary server take seconds, is
left alone.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flows.runtime.private_errors import is_unreachable, redact_errors

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds before each further attempt of a stage that needs a server.
RETRY_AFTER_S = [5.0, 30.0, 120.0]
#: Where Prefect reads settings from besides the environment, relative to the working folder.
_SETTINGS_FILES = ("prefect.toml", "pyproject.toml", ".env")


def api_is_configured() -> bool:
    """Whether a Prefect API is configured: by the environment, a profile or a settings file.

    Prefect itself is asked only where it is imported already or a file might say so.
    """
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    if "prefect" not in sys.modules and not any(
        _may_configure(path) for path in (profiles, *map(Path, _SETTINGS_FILES))
    ):
        return False
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def _may_configure(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return False
    return "prefect_api_url" in text or ("prefect" in text and "url" in text)


def in_flow(
    name: str,
    body: Callable[[], Any],
    runner: TaskRunner | None = None,
    *,
    always: bool = False,
) -> Any:
    """Run `body` as a Prefect flow of that name, where an API is configured; else as it is.

    runner: what tasks that it submits go to; always: also on Prefect's temporary server. Both make
    it a flow in any case. Returns what the body does, and raises what it raises.
    """
    if runner is None and not always and not api_is_configured():
        return body()
    from prefect import flow

    from flows.runtime.private_errors import run_flow

    # name_flow_run calls a run by what it works on, once that is known.
    as_flow = flow(name=name, flow_run_name=name, task_runner=runner)
    return run_flow(as_flow(redact_errors(name)(body)))


def stage_task(
    name: str, about: Callable[..., str] | None = None, *, over_network: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a stage: within a flow run it is a Prefect task, elsewhere a plain function.

    about: of the stage's arguments, what its run is called by after `name`; it must not identify
    a patient. The task is neither cached nor persisted: its work is kept in the store.
    over_network: where a server cannot be reached it is tried again, after RETRY_AFTER_S; every
    other failure would be the same again.
    """

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        @functools.cache
        def as_task() -> Any:
            from prefect import task
            from prefect.cache_policies import NO_CACHE

            options: dict[str, Any] = {}
            if over_network:
                options = {
                    "retries": len(RETRY_AFTER_S),
                    "retry_delay_seconds": RETRY_AFTER_S,
                    "retry_condition_fn": _may_pass,
                }
            return task(
                name=name,
                task_run_name=name,
                cache_policy=NO_CACHE,
                persist_result=False,
                **options,
            )(redact_errors(name)(body))

        def named_task(*args: P.args, **kwargs: P.kwargs) -> Any:
            if about is None:
                return as_task()
            shown = about(*args, **kwargs).replace("{", "(").replace("}", ")")  # or a template
            return as_task().with_options(task_run_name=f"{name} {shown}")

        @functools.wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            stage = named_task(*args, **kwargs) if _in_flow_run() else body
            return stage(*args, **kwargs)

        def submit(*args: Any, **kwargs: Any) -> Any:
            return named_task(*args, **kwargs).submit(*args, **kwargs)

        run.submit = submit  # type: ignore[attr-defined]
        return run

    return decorate


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether the failure of a task may pass (Prefect's retry_condition_fn)."""
    return is_unreachable(state.result(raise_on_failure=False))


def name_flow_run(name: str) -> None:
    """Call the flow run that this is in by what it works on; nothing elsewhere. The name must not
    identify a patient."""
    if not _in_flow_run():
        return
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def submit(stage: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
    """Hand a stage to the flow's task runner; the result is called to wait for what it returns."""
    return stage.submit(*args, **kwargs).result  # type: ignore[attr-defined]


def _in_flow_run() -> bool:
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None
