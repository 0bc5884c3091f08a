"""Names that configurations know by: every path that ever was one still is."""

from __future__ import annotations

import ast
import inspect
import warnings
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from helpers.images import run_data
from pydantic import BaseModel

import pipeline.config.names as names
from pipeline.config.component import named
from pipeline.config.load import load_config, parse_config
from pipeline.config.names import (
    ADDED,
    MOVED,
    RENAMED,
    SHORT_NAMES,
    current_path,
    digest,
    historical_form,
    historical_path,
)
from pipeline.config.sections import Component
from pipeline.core.errors import ConfigError

#: Every path that a version before knew as a `target:`, of the whole history.
EVER = (Path(__file__).parents[1] / "data/upgrade/dotted-paths.txt").read_text().split()


@pytest.mark.parametrize("path", EVER)
def test_every_path_that_ever_was_a_target_still_is(path: str) -> None:
    kind = named(Component(target=path), key="model", base=object)
    assert inspect.isclass(kind)


@pytest.mark.parametrize("path", [path for path in EVER if path.startswith("pipeline.")])
def test_a_digest_knows_a_class_by_its_oldest_path(path: str) -> None:
    assert historical_path(current_path(path)) == path
    assert digest({"target": current_path(path)}) == digest({"target": path})


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_short_name_is_as_good_as_the_path(name: str) -> None:
    kind = named(Component(target=name), key="model", base=object)
    path = SHORT_NAMES[name]
    assert kind is named(Component(target=path), key="model", base=object)
    assert digest({"target": name}) == digest({"target": path})


def test_no_name_stands_twice_and_no_class_has_two() -> None:
    written = ast.parse(inspect.getsource(names))
    tables = [node.value for node in written.body if isinstance(node, ast.Assign)]
    for table in [table for table in tables if isinstance(table, ast.Dict)]:
        keys = [ast.literal_eval(key) for key in table.keys if key is not None]
        assert len(keys) == len(set(keys))
    assert len(set(SHORT_NAMES.values())) == len(SHORT_NAMES)
    assert len(set(MOVED.values())) == len(MOVED)


def old_run(**changes: Any) -> dict[str, Any]:
    return run_data() | changes


GENERATE = {
    "task": "generate",
    "generation": {"source": "digits", "limits": {"least_psnr_db": 12, "most_copies": 0.5}},
}


def generated(keys: dict[str, Any]) -> dict[str, Any]:
    raw = {key: value for key, value in old_run().items() if key not in ("metrics", "phantoms")}
    return raw | GENERATE | {"generation": {"source": "digits", "limits": keys}}


def test_a_key_by_its_old_name_is_read_and_has_the_digest_of_the_new() -> None:
    old = parse_config(generated({"least_psnr_db": 12, "most_copies": 0.5}))
    new = parse_config(generated({"min_psnr_db": 12, "max_copies": 0.5}))
    assert old == new
    assert digest(old.resolved()) == digest(new.resolved())
    limits = historical_form(new.resolved())["generation"]["limits"]
    assert limits["least_psnr_db"] == 12
    assert "min_psnr_db" not in limits


def test_a_key_by_both_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="least_psnr_db"):
        parse_config(generated({"least_psnr_db": 12, "min_psnr_db": 13}))


def test_a_file_with_an_old_key_is_noted_once_and_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(generated({"most_copies": 0.5})))
    with pytest.warns(FutureWarning, match=r"most_copies is now max_copies"):
        load_config(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_config(generated({"most_copies": 0.5}))  # a registered model's: nobody can edit it


def test_every_renamed_key_leads_to_one_that_is_there() -> None:
    from pipeline.config.faults import key_paths
    from pipeline.config.load import known_tasks
    from pipeline.config.run import RunConfig

    assert known_tasks()
    there = {path for kind in RunConfig.types.values() for path in key_paths(kind)}
    for old, new in RENAMED.items():
        sections = old.rpartition(".")[0]
        assert f"{sections}.{new}" in there
        assert old not in there


def test_an_added_key_counts_in_a_digest_only_where_it_says_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ADDED, "data.intake.invented", "refuse")
    plain = {"task": "denoise", "data": {"patch": [64, 64], "intake": {"gaps": "refuse"}}}
    silent = {
        **plain,
        "data": {"patch": [64, 64], "intake": {"gaps": "refuse", "invented": "refuse"}},
    }
    spoken = {**plain, "data": {"patch": [64, 64], "intake": {"invented": "take"}}}
    assert digest(silent) == digest(plain)
    assert digest([silent, "data"]) == digest([plain, "data"])  # as a checkpoint is named
    assert digest(spoken) != digest(plain)


def _default(kind: type[BaseModel], path: list[str]) -> object:
    """What a run says that says nothing of a key; NotImplemented where there is no such key."""
    if not issubclass(kind, BaseModel):
        return NotImplemented
    named = {field.alias or name: field for name, field in kind.model_fields.items()}
    field = named.get(path[0])
    if field is None:
        return NotImplemented
    if len(path) == 1:
        return field.get_default(call_default_factory=True)
    either = get_args(field.annotation)  # of a section that may be left out, or is of two kinds
    sections = [field.annotation, *either, *(part for one in either for part in get_args(one))]
    found = [_default(each, path[1:]) for each in sections if isinstance(each, type)]
    return next((value for value in found if value is not NotImplemented), NotImplemented)


def test_every_added_key_is_there_with_its_default() -> None:
    from pipeline.config.load import known_tasks
    from pipeline.config.run import RunConfig

    assert known_tasks()
    for path, default in ADDED.items():
        assert any(_default(kind, path.split(".")) == default for kind in RunConfig.types.values())
