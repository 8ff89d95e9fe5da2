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
        typer.echo("\n".join((*_group_lines(group, fields, getattr(settings, group)), "")))


def _group_lines(group: str, values: Mapping[str, Any], settings: Any) -> Iterator[str]:
    """Yield the lines of a group, or of a group within one, whose settings these are."""
    fields = type(settings).model_fields
    documentation = {name: field.description for name, field in fields.items()}
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
        if hasattr(type(getattr(settings, name)), "model_fields"):
            yield from _group_lines(f"{group}.{name}", items, getattr(settings, name))
            continue
        for header, item in _tables(f"{group}.{name}", items):
            yield header
            yield from (
                f"{key} = {json.dumps(value)}" for key, value in item.items() if value is not None
            )


def _tables(name: str, items: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the headers and contents of a list of tables or of named tables."""
    if isinstance(items, Mapping):
        yield from ((f"[{name}.{json.dumps(key)}]", item) for key, item in items.items())
    else:
        yield from ((f"[[{name}]]", item) for item in items)


def _has_tables(value: object) -> bool:
    return (isinstance(value, Mapping) and bool(value)) or _is_list_of_tables(value)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
