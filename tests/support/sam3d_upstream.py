"""Stand-ins for the packages of SAM 3D, which no machine of ours can run.

They have what upstream has where our engines touch it: module and class names, call signatures,
the order of stages, output keys, shapes and dtypes, and upstream's habits that an engine must cope
with (read in facebookresearch/sam-3d-objects at cf06676 and facebookresearch/sam-3d-body at
b5c765a). What upstream computes with networks is replaced by a shape that can be told: an ellipsoid
that fills the mask, and a person that fills the box. Everything runs on the CPU.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.support.sam3d_body_upstream import HumanDetector, SAM3DBody, SAM3DBodyEstimator
from tests.support.sam3d_objects_upstream import (
    POINT_MAP_MODULE,
    InferencePipelinePointMap,
    MoGe,
)

_STAND_IN = "A stand-in for a module of upstream's."


@dataclass
class ObjectsUpstream:
    """The installed stand-in of `sam3d_objects`.

    Attributes:
        config: A pipeline.yaml with its checkpoint folder.
    """

    config: Path


def install_objects(monkeypatch: pytest.MonkeyPatch, folder: Path) -> ObjectsUpstream:
    """Make the stand-in importable, with a checkpoint folder."""
    _install(
        monkeypatch, POINT_MAP_MODULE, {"InferencePipelinePointMap": InferencePipelinePointMap}
    )
    _install(monkeypatch, "sam3d_objects.pipeline.depth_models.moge", {"MoGe": MoGe})
    folder.mkdir(exist_ok=True)
    (folder / "ss.ckpt").write_bytes(b"structure")
    (folder / "slat.ckpt").write_bytes(b"latents")
    config = folder / "pipeline.yaml"
    config.write_text(
        f"_target_: {POINT_MAP_MODULE}.InferencePipelinePointMap\n"
        "device: cpu\n"
        "ss_generator_ckpt_path: ss.ckpt\n"
        "slat_generator_ckpt_path: slat.ckpt\n"
        "clip_pointmap_beyond_scale: 5.0\n"
        "layout_post_optimization_method: layout\n"
        "depth_model:\n  _target_: sam3d_objects.pipeline.depth_models.moge.MoGe\n",
        encoding="utf-8",
    )
    return ObjectsUpstream(config)


@dataclass
class BodyUpstream:
    """The installed stand-in of `sam_3d_body`.

    Attributes:
        checkpoint: model.ckpt, with model_config.yaml beside it.
        rig: mhr_model.pt.
    """

    checkpoint: Path
    rig: Path

    def add_detector(self) -> None:
        """Put the weights of the detector of people beside the checkpoint."""
        (self.checkpoint.parent / "model_final_f05665.pkl").write_bytes(b"people")


def install_body(monkeypatch: pytest.MonkeyPatch, folder: Path) -> BodyUpstream:
    """Make the stand-in importable, with a checkpoint folder."""

    def load_sam_3d_body(
        checkpoint_path: str = "", device: str = "cuda", mhr_path: str = ""
    ) -> tuple[SAM3DBody, object]:
        assert all(Path(file).is_file() for file in (checkpoint_path, mhr_path))
        assert device == "cuda"
        return SAM3DBody(), object()

    _install(
        monkeypatch,
        "sam_3d_body",
        {"load_sam_3d_body": load_sam_3d_body, "SAM3DBodyEstimator": SAM3DBodyEstimator},
    )
    _install(monkeypatch, "tools.build_detector", {"HumanDetector": HumanDetector})
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    (folder / "model_config.yaml").write_text("MODEL: {}\n", encoding="utf-8")
    upstream = BodyUpstream(folder / "model.ckpt", folder / "assets" / "mhr_model.pt")
    upstream.checkpoint.write_bytes(b"body")
    upstream.rig.write_bytes(b"rig")
    return upstream


def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engines' check of the device pass; the stand-ins compute on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def _install(monkeypatch: pytest.MonkeyPatch, name: str, members: dict[str, Any]) -> None:
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        module = sys.modules.get(path)
        if module is None or module.__doc__ != _STAND_IN:
            module = ModuleType(path)
            module.__path__ = []
            module.__doc__ = _STAND_IN
            monkeypatch.setitem(sys.modules, path, module)
            if depth > 1:
                monkeypatch.setattr(
                    sys.modules[".".join(parts[: depth - 1])],
                    parts[depth - 1],
                    module,
                    raising=False,
                )
    for member, value in members.items():
        monkeypatch.setattr(sys.modules[name], member, value, raising=False)
