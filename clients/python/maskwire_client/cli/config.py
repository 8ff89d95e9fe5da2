"""`maskwire config`: prints the settings in force, as a settings file with its documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from .connection import ConfigOption, read_settings
from .console import print_json

__all__ = ["show_config"]


def show_config(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of TOML.")] = False,
) -> None:
    """Print the settings in force, with what each means; secrets are hidden.

    The output is a settings file: save it, change it, and pass it with --config.
    """
    settings = read_settings(config)
    values: dict[str, Any] = settings.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    for group, fields in values.items():
        model = type(getattr(settings, group))
        documentation = {name: field.description for name, field in model.model_fields.items()}
        typer.echo("\n".join(_group_lines(group, fields, documentation)))


def _group_lines(
    group: str, values: Mapping[str, Any], documentation: Mapping[str, str | None]
) -> Iterator[str]:
    yield f"[{group}]"
    tables = {name: value for name, value in values.items() if _has_tables(value)}
    for name, value in values.items():
        if name in tables:
            continue
        yield f"# {' '.join((documentation.get(name) or '').split())}"
        # TOML has no null: what is not set is left out.
        yield f"{name} = {json.dumps(value)}" if value is not None else f"# {name} is not set"
    for name, items in tables.items():
        yield ""
        yield f"# {' '.join((documentation.get(name) or '').split())}"
        for header, item in _tables(f"{group}.{name}", items):
            yield header
            yield from (
                f"{key} = {json.dumps(value)}" for key, value in item.items() if value is not None
            )
    yield ""


def _tables(name: str, items: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(items, Mapping):
        return ((f"[{name}.{json.dumps(key)}]", item) for key, item in items.items())
    return ((f"[[{name}]]", item) for item in items)


def _has_tables(value: object) -> bool:
    items = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(items, list) and bool(items) and isinstance(items[0], Mapping)
