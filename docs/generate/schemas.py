"""JSON Schemas as tables: of YAML files, from the types that read them, and of reports."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
#: A longer default is a section of its own, whose table has its parts.
MAX_DEFAULT = 60
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "of at least {} characters",
    "minItems": "at least {} of them",
    "pattern": "of the form `{}`",
}


def schema_of(model: type[BaseModel]) -> Schema:
    """A model's JSON Schema, with what the comments (`#:`) above its fields say."""
    schema = model.model_json_schema(by_alias=True)
    for each in models_below(model):
        part = (
            schema
            if each is model
            else schema.get("$defs", {}).get(re.sub(r"\W", "_", each.__name__), {})
        )
        if each.__doc__:
            part["description"] = inspect.cleandoc(each.__doc__)
        for name, text in field_comments(each).items():
            alias = each.model_fields[name].alias or name
            if alias in part.get("properties", {}):
                part["properties"][alias]["description"] = text
    return schema


def models_below(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model, and those that its fields hold, each once."""
    found: list[type[BaseModel]] = []

    def visit(kind: Any) -> None:
        for part in getattr(kind, "__args__", ()):
            visit(part)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            for field in kind.model_fields.values():
                visit(field.annotation)

    visit(model)
    return found


def field_comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment of each field that has one, also of what the model inherits."""
    comments: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel and "[" not in kind.__name__:
            comments |= _comments_in(textwrap.dedent(inspect.getsource(kind)))
    return {name: text for name, text in comments.items() if name in model.model_fields}


def _comments_in(source: str) -> dict[str, str]:
    lines, comments = source.splitlines(), {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above, at = [], node.lineno - 2
        while at >= 0 and lines[at].strip().startswith("#:"):
            above.insert(0, lines[at].strip()[2:].strip())
            at -= 1
        if above:
            comments[node.target.id] = " ".join(above)
    return comments


def tables(schema: Schema, *, title: str, of_output: bool = False) -> str:
    """A section for the schema, and one for each that it refers to, in the order of mention.

    of_output: of what is written, where keys have no defaults but are there always or not.
    """
    schema = _with_small_parts_inside(schema)
    parts = schema.get("$defs", {})
    named = [(title, schema), *((name, parts[name]) for name in _mentioned(schema, parts))]
    return "\n".join(_section(name, part, of_output) for name, part in named)


def _mentioned(schema: Schema, parts: dict[str, Schema]) -> list[str]:
    found: list[str] = []

    def visit(part: Schema) -> None:
        shown = {name: value for name, value in part.items() if name != "$defs"}
        for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(shown)):
            if name not in found:
                found.append(name)
                visit(parts[name])

    visit(schema)
    return [name for name in found if _has_section(parts[name])]


def _with_small_parts_inside(schema: Schema) -> Schema:
    """The schema with what needs no section of its own, such as a pair of numbers, in its place."""
    small = {name: part for name, part in schema.get("$defs", {}).items() if not _has_section(part)}

    def inside(part: Any) -> Any:
        if isinstance(part, list):
            return [inside(one) for one in part]
        if not isinstance(part, dict):
            return part
        name = str(part.get("$ref", "")).rpartition("/")[2]
        return inside(small[name]) if name in small else {k: inside(v) for k, v in part.items()}

    return dict(inside(schema))


def _has_section(part: Schema) -> bool:
    return bool(part.get("properties") or part.get("description"))


def _section(name: str, part: Schema, of_output: bool) -> str:
    lines = [f"## {heading(name)}\n", _escaped(part.get("description", "")), ""]
    rows = list(_rows(part, of_output))
    if rows:
        column = "always there" if of_output else "if left out"
        lines += [f"| key | value | {column} | |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def heading(name: str) -> str:
    """`Register[DenoiseGate]`, which JSON Schema writes as Register_DenoiseGate_."""
    return re.sub(r"_(\w+)_$", r" of \1", name)


def anchor(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", heading(name).lower()).strip("-")


def _rows(part: Schema, of_output: bool) -> Iterator[str]:
    required = part.get("required", [])
    for key, value in part.get("properties", {}).items():
        if of_output:
            default = "yes" if key in required else ""
        else:
            default = "must be given" if key in required else _default(value)
        said = _escaped(value.get("description", "")).replace("\n", " ")
        yield f"| `{key}` | {_cell(kind_of(value))} | {_cell(default)} | {_cell(said)} |"


def _default(value: Schema) -> str:
    shown = f"`{json.dumps(value['default'])}`" if "default" in value else ""
    return "see its section" if len(shown) > MAX_DEFAULT else shown


def kind_of(value: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{heading(name)}](#{anchor(name)})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return "one of " + ", ".join(f"`{one}`" for one in value["enum"])
    choices = value.get("anyOf") or value.get("oneOf") or value.get("allOf")
    if choices:
        return " or ".join(dict.fromkeys(kind_of(one) for one in choices))
    return _simple_kind(value)


def _simple_kind(value: Schema) -> str:
    kind = value.get("type", "anything")
    if kind == "array":
        return _array_kind(value)
    if kind == "object":
        inner = value.get("additionalProperties")
        return (
            f"names, each with: {kind_of(inner)}" if isinstance(inner, dict) else "names and values"
        )
    if isinstance(kind, list):
        return " or ".join(_word(one) for one in kind)
    bounds = [words.format(value[key]) for key, words in BOUNDS.items() if key in value]
    return ", ".join([_word(kind), *bounds])


def _array_kind(value: Schema) -> str:
    if "prefixItems" in value:
        inner = list(dict.fromkeys(kind_of(one) for one in value["prefixItems"]))
        return f"{len(value['prefixItems'])} values: {', '.join(inner)}"
    return f"list of: {kind_of(value.get('items', {}))}"


def _word(kind: str) -> str:
    words = {"null": "nothing (`null`)", "string": "text", "boolean": "`true` or `false`"}
    return words.get(kind, "whole number" if kind == "integer" else kind)


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
