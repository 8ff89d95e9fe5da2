"""Measures of masks against known ones, and the simulated clicking that they are measured with.

Plain functions over numpy arrays, and the forms of folder that hold labelled pictures; the command
`maskwire eval` asks a server and puts the two together. Coordinates are in the image frame of
`maskwire_client.geometry`.
"""

from .clicking import Click, clicks_needed, first_click, next_click
from .distances import deepest_pixel, squared_distances
from .folders import Clip, LabelledObject, Photograph, find_clips, find_photographs
from .measures import boundary_f, boundary_tolerance_px, iou, outline
from .scores import (
    TARGET_IOU,
    PromptedScores,
    TrackedScores,
    mean_curve,
    prompted_summary,
    tracked_summary,
)

__all__ = [
    "TARGET_IOU",
    "Click",
    "Clip",
    "LabelledObject",
    "Photograph",
    "PromptedScores",
    "TrackedScores",
    "boundary_f",
    "boundary_tolerance_px",
    "clicks_needed",
    "deepest_pixel",
    "find_clips",
    "find_photographs",
    "first_click",
    "iou",
    "mean_curve",
    "next_click",
    "outline",
    "prompted_summary",
    "squared_distances",
    "tracked_summary",
]
