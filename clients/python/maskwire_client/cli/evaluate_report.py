"""What `maskwire eval` shows and leaves of scores: tables, JSON, a plot and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..evaluation import (
    TARGET_IOU,
    PromptedScores,
    TrackedScores,
    mean_curve,
    prompted_summary,
    tracked_summary,
)
from ..results import ProcessingInfo
from .evaluate_curves import plot
from .evaluate_photographs import JudgedObject
from .evaluate_sheets import EACH, View, best_median_worst, sheet
from .evaluate_videos import JudgedTrack, Start

__all__ = [
    "photographs_document",
    "photographs_table",
    "tracks_document",
    "tracks_table",
    "write_photographs",
    "write_results",
    "write_tracks",
]

_ALL = "all"

Row = tuple[str, dict[str, float | int]]


def photographs_table(objects: Sequence[JudgedObject]) -> Table:
    """Return a table with the means of each photograph and of all objects."""
    table = Table(
        "scene",
        "objects",
        "box",
        "1 click, best of 3",
        "1 click",
        "3 clicks",
        "5 clicks",
        f"clicks to {TARGET_IOU:.0%}",
    )
    columns = ("box", "click_1", "click_1_single", "click_3", "click_5")
    for name, means in _rows([judged.scores for judged in objects], _scene, prompted_summary):
        values = [f"{means[column]:.3f}" for column in columns]
        table.add_row(name, str(means["objects"]), *values, f"{means['noc_80']:.1f}")
    return _finished(table)


def tracks_table(tracks: Sequence[JudgedTrack]) -> Table:
    """Return a table with the means of each clip and of all objects."""
    table = Table("clip", "objects", "J", "F", "J&F")
    for name, means in _rows([judged.scores for judged in tracks], _clip, tracked_summary):
        values = [f"{means[column]:.3f}" for column in ("j", "f", "j_and_f")]
        table.add_row(name, str(means["objects"]), *values)
    return _finished(table)


def photographs_document(
    objects: Sequence[JudgedObject], skipped: Sequence[str], most_clicks: int
) -> dict[str, Any]:
    """Return results.json for photographs: the means over all objects, of each scene, and all."""
    scores = [judged.scores for judged in objects]
    rows = _rows(scores, _scene, prompted_summary)
    return {
        **prompted_summary(scores),
        "most_clicks": most_clicks,
        "curve": [round(value, 6) for value in mean_curve(scores)],
        **_model(objects[0].info),
        "scenes": dict(rows[:-1]),
        "per_object": [score.as_json() for score in scores],
        "skipped": list(skipped),
    }


def tracks_document(tracks: Sequence[JudgedTrack], start: Start) -> dict[str, Any]:
    """Return results.json for clips: the means over all objects, of each clip, and all."""
    scores = [judged.scores for judged in tracks]
    rows = _rows(scores, _clip, tracked_summary)
    return {
        **tracked_summary(scores),
        "start": start.value,
        **_model(tracks[0].info),
        "clips": dict(rows[:-1]),
        "per_object": [score.as_json() for score in scores],
    }


def write_photographs(folder: Path, objects: Sequence[JudgedObject]) -> list[Path]:
    """Write the plot and the contact sheets of photographs; return their paths.

    Raises:
        OSError: The folder cannot be written to, or a picture cannot be read again.
    """
    scores = [judged.scores for judged in objects]
    curves = {f"{_ALL} {len(scores)} objects": mean_curve(scores)}
    for name, group in _groups(scores, _scene):
        curves[name] = mean_curve(group)
    picture = plot(curves, "mean IoU by number of clicks", "clicks", TARGET_IOU)
    written = [folder / "clicks.png", folder / "cases-box.png", folder / "cases-clicks.png"]
    picture.save(written[0])
    by_box = best_median_worst(objects, lambda judged: judged.scores.box, EACH)
    _save_sheet([judged.boxed for judged in by_box], written[1])
    by_clicks = best_median_worst(objects, lambda judged: judged.scores.curve[4], EACH)
    _save_sheet([judged.clicked for judged in by_clicks], written[2])
    return written


def write_tracks(folder: Path, tracks: Sequence[JudgedTrack]) -> list[Path]:
    """Write the contact sheet of clips: the best, the median and the worst object, a line for each.

    Raises:
        OSError: The folder cannot be written to, or a frame cannot be read again.
    """
    chosen = best_median_worst(tracks, lambda judged: judged.scores.j_and_f, 1)
    path = folder / "cases-video.png"
    _save_sheet([view for judged in chosen for view in judged.views], path)
    return [path]


def write_results(folder: Path, document: dict[str, Any]) -> Path:
    """Write results.json and return its path.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = folder / "results.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def _save_sheet(views: Sequence[View], path: Path) -> None:
    sheet(views).save(path)


def _rows(
    scores: Sequence[Any],
    group: Callable[[Any], str],
    summary: Callable[[Sequence[Any]], dict[str, float | int]],
) -> list[Row]:
    """Return the means of each group by its name, and those of all under the name `all`."""
    rows = [(name, summary(members)) for name, members in _groups(scores, group)]
    return [*rows, (_ALL, summary(scores))]


def _groups(scores: Sequence[Any], group: Callable[[Any], str]) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = {}
    for score in scores:
        groups.setdefault(group(score), []).append(score)
    return list(groups.items())


def _scene(score: PromptedScores) -> str:
    return score.scene


def _clip(score: TrackedScores) -> str:
    return score.clip


def _model(info: ProcessingInfo) -> dict[str, Any]:
    reference = info.models[0]
    return {"model": reference.model, "checkpoint_digest": reference.checkpoint_digest}


def _finished(table: Table) -> Table:
    """Return a table with its numbers to the right and a line before the last row."""
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    table.rows[-2].end_section = True
    table.rows[-1].style = "bold"
    return table
