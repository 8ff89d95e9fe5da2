"""A stand-in for the package of SAM 3D Body; `sam3d_upstream` says what it is and installs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

RINGS, SEGMENTS = 103, 179
"""Of the person's surface: 18,439 vertices and 36,874 faces, as the rig has."""


def person_surface() -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (18439, 3), float32, metres in the body's frame, and faces (36874, 3).

    An ellipsoid 0.6 m wide, 1.8 m high, 0.4 m deep, with y down, its normals outwards.
    """
    polar = np.pi * np.arange(1, RINGS + 1) / (RINGS + 1)
    around = 2 * np.pi * np.arange(SEGMENTS) / SEGMENTS
    ring = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.cos(polar), np.ones(SEGMENTS)),
            np.outer(np.sin(polar), np.sin(around)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([[[0, 1, 0]], ring, [[0, -1, 0]]]) * [0.3, 0.9, 0.2]
    row, column = np.divmod(np.arange((RINGS - 1) * SEGMENTS), SEGMENTS)
    here = 1 + row * SEGMENTS + column
    right = 1 + row * SEGMENTS + (column + 1) % SEGMENTS
    below, across = here + SEGMENTS, right + SEGMENTS
    first, last = 1 + np.arange(SEGMENTS), 1 + (RINGS - 1) * SEGMENTS + np.arange(SEGMENTS)
    zeros, ends = np.zeros(SEGMENTS, int), np.full(SEGMENTS, len(vertices) - 1)
    faces = np.concatenate(
        [
            np.column_stack([zeros, np.roll(first, -1), first]),
            np.column_stack([here, right, below]),
            np.column_stack([right, across, below]),
            np.column_stack([ends, last, np.roll(last, -1)]),
        ]
    )
    return vertices.astype(np.float32), faces


class _Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        faces = torch.from_numpy(person_surface()[1])
        self.faces = torch.nn.Parameter(faces, requires_grad=False)


class SAM3DBody(torch.nn.Module):
    """The network, as far as the estimator's stages show."""

    def __init__(self) -> None:
        super().__init__()
        self.head_pose = _Head()
        self.device = torch.device("cpu")
        self.failures: dict[str, Exception] = {}
        self.passes: list[str] = []

    def forward_step(self, batch: dict[str, Any], decoder_type: str = "body") -> dict[str, Any]:
        self.passes.append(decoder_type)
        if decoder_type in self.failures:
            raise self.failures[decoder_type]
        return {}

    def run_inference(
        self,
        img: Any,
        batch: dict[str, Any],
        inference_type: str = "full",
        transform_hand: Any = None,
        thresh_wrist_angle: float = 1.4,
    ) -> None:
        self.forward_step(batch, decoder_type="body")
        self.forward_step({}, decoder_type="hand")
        self.forward_step({}, decoder_type="hand")


class HumanDetector:
    """The detector of people, which sees one in the middle."""

    def __init__(self, name: str = "vitdet", device: str = "cuda", **kwargs: Any) -> None:
        assert (name, set(kwargs)) == ("vitdet", {"path"})

    def run_human_detection(self, img: Any, **kwargs: Any) -> np.ndarray:
        assert set(kwargs) == {"det_cat_id", "bbox_thr", "nms_thr", "default_to_full_image"}
        height, width = img.shape[:2]
        return np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], np.float32)


@dataclass
class SAM3DBodyEstimator:
    """The estimator; the person stands upright in the middle of each box and fills its height."""

    sam_3d_body_model: SAM3DBody
    model_cfg: Any
    human_detector: Any = None
    human_segmentor: Any = None
    fov_estimator: Any = None
    masks: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.cfg = self.sam_3d_body_model, self.model_cfg
        self.device = self.model.device
        self.detector, self.sam = self.human_detector, self.human_segmentor
        self.faces = self.model.head_pose.faces.cpu().numpy()

    def process_one_image(
        self,
        img: Any,
        bboxes: Any = None,
        masks: Any = None,
        cam_int: Any = None,
        det_cat_id: int = 0,
        bbox_thr: float = 0.5,
        nms_thr: float = 0.3,
        use_mask: bool = False,
        inference_type: str = "full",
    ) -> list[dict[str, Any]]:
        print("####### Please make sure the input image is in RGB format")
        height, width = img.shape[:2]
        if bboxes is not None:
            boxes = bboxes.reshape(-1, 4)
        elif self.detector is not None:
            boxes = self.detector.run_human_detection(
                img,
                det_cat_id=det_cat_id,
                bbox_thr=bbox_thr,
                nms_thr=nms_thr,
                default_to_full_image=False,
            )
        else:
            boxes = np.array([0, 0, width, height]).reshape(1, 4)
        if len(boxes) == 0:
            return []
        if masks is not None:
            assert bboxes is not None, "Mask-conditioned inference requires bboxes input!"
            masks = masks.reshape(-1, height, width, 1).astype(np.uint8)
            assert len(masks) == len(boxes)
            self.masks.extend(masks)
        focal = float(np.hypot(height, width))
        if cam_int is not None:
            assert cam_int.shape == (1, 3, 3)
            focal = float(cam_int[0, 0, 0])
        self.model.run_inference(img, {}, inference_type=inference_type)
        return [
            self._person(box, focal, (height, width), None if masks is None else masks[index])
            for index, box in enumerate(boxes)
        ]

    def _person(
        self, box: np.ndarray, focal: float, size: tuple[int, int], mask: Any
    ) -> dict[str, Any]:
        vertices = person_surface()[0]
        depth = focal * 1.8 / (box[3] - box[1])
        middle = [(box[0] + box[2]) / 2 - size[1] / 2, (box[1] + box[3]) / 2 - size[0] / 2]
        translation = np.array([*(np.array(middle) * depth / focal), depth], np.float32)
        keypoints = vertices[:: len(vertices) // 70][:70]
        placed = keypoints + translation
        image = placed[:, :2] / placed[:, 2:] * focal + np.array([size[1], size[0]]) / 2
        shapes = {
            "pred_pose_raw": (266,),
            "global_rot": (3,),
            "body_pose_params": (133,),
            "hand_pose_params": (108,),
            "scale_params": (28,),
            "shape_params": (45,),
            "expr_params": (72,),
            "pred_joint_coords": (127, 3),
            "pred_global_rots": (127, 3, 3),
            "mhr_model_params": (204,),
        }
        return {
            "bbox": box.astype(np.float32),
            "focal_length": np.float32(focal),
            "pred_keypoints_3d": keypoints,
            "pred_keypoints_2d": image.astype(np.float32),
            "pred_vertices": vertices,
            "pred_cam_t": translation,
            "mask": mask,
            **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
            "lhand_bbox": np.zeros(4),
            "rhand_bbox": np.zeros(4),
        }
