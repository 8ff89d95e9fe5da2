"""The stages of upstream's pipeline, and how they are watched while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from maskwire_server.domain.errors import invalid_field
from maskwire_server.engines.sam3d_upstream import Progress, replaced

POINT_MAP = "point_map"
"""The stage before the first object."""
POINT_MAP_SHARE = 0.05
"""Its part of all the work."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of one object.

    Attributes:
        name: What progress calls it.
        method: The pipeline's method that runs it.
        start: How much of the object's work is done when it begins.
        end: How much when it ends.
        generator: Name of the network that samples in it, step by step, or empty.
    """

    name: str
    method: str
    start: float
    end: float
    generator: str = ""


STAGES = (
    Stage("sparse_structure", "sample_sparse_structure", 0.0, 0.4, "ss_generator"),
    Stage("structured_latents", "sample_slat", 0.4, 0.75, "slat_generator"),
    Stage("decode", "decode_slat", 0.75, 0.85),
    Stage("post_process", "postprocess_slat_output", 0.85, 0.9),
    Stage("layout", "run_post_optimization", 0.9, 1.0),
)
METHODS = ("run", "compute_pointmap", *(stage.method for stage in STAGES))
"""What the engine calls or wraps of a pipeline."""


@contextlib.contextmanager
def watched(pipeline: Any, progress: Progress, index: int, count: int) -> Iterator[None]:
    """Report the stages of one object while the pipeline runs on it; then leave it as it was.

    Args:
        pipeline: `InferencePipelinePointMap`.
        progress: Hears of each stage's beginning and of each sampling step.
        index: Which object, from 0.
        count: How many there are.
    """

    def tell(stage: Stage, fraction: float) -> None:
        done = stage.start + (stage.end - stage.start) * fraction
        progress(stage.name, POINT_MAP_SHARE + (1 - POINT_MAP_SHARE) * (index + done) / count)

    with contextlib.ExitStack() as stack:
        for stage in STAGES:
            stack.enter_context(replaced(pipeline, stage.method, _announcing(stage, tell)))
            if stage.generator:
                generator = pipeline.models[stage.generator]
                steps = _counting(generator, stage, tell)
                stack.enter_context(replaced(generator, "generate_iter", steps))
        checked = _refusing_nothing(index)
        stack.enter_context(replaced(pipeline, "sample_sparse_structure", checked))
        yield


@contextlib.contextmanager
def unclipped(pipeline: Any) -> Iterator[None]:
    """Keep points far behind the object, for a point map that serves all objects.

    The pipeline forgets points that lie many times farther than the mask's; which ones depends on
    the mask, and it does so again for each mask that it is given the point map with.
    """
    limit = pipeline.clip_pointmap_beyond_scale
    pipeline.clip_pointmap_beyond_scale = None
    try:
        yield
    finally:
        pipeline.clip_pointmap_beyond_scale = limit


@contextlib.contextmanager
def knowing_camera(pipeline: Any, intrinsics: Any) -> Iterator[None]:
    """Give the layout stage the camera, which the pipeline cannot tell itself.

    It drops the depth model's camera, and infers one from a given point map by the rule for another
    camera frame, whose focal length comes out negative here.

    Args:
        pipeline: `InferencePipelinePointMap`.
        intrinsics: Tensor of shape (3, 3), as `sam3d_frames.layout_intrinsics` says.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def compute_pointmap(*arguments: Any, **named: Any) -> Any:
            return {**original(*arguments, **named), "intrinsics": intrinsics}

        return compute_pointmap

    with replaced(pipeline, "compute_pointmap", wrap):
        yield


def _announcing(
    stage: Stage, tell: Callable[[Stage, float], None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def announced(*arguments: Any, **named: Any) -> Any:
            tell(stage, 0.0)
            return original(*arguments, **named)

        return announced

    return wrap


def _counting(
    generator: Any, stage: Stage, tell: Callable[[Stage, float], None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Iterator[Any]:
            for step, sample in enumerate(original(*arguments, **named), start=1):
                tell(stage, min(step / generator.inference_steps, 1.0))
                yield sample

        return counted

    return wrap


def _refusing_nothing(index: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the error for an object without a shape, on which later stages fail in obscure ways."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def sampled(*arguments: Any, **named: Any) -> Any:
            structure = original(*arguments, **named)
            if len(structure["coords"]) == 0:
                raise invalid_field(
                    f"masks[{index}]",
                    "the model finds no shape in it: it must show one object, whole and large "
                    "enough to be told",
                )
            return structure

        return sampled

    return wrap
