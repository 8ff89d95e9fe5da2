"""A stand-in for the package of SAM 3D Objects; `sam3d_upstream` says what it is, installs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

POINT_MAP_MODULE = "sam3d_objects.pipeline.inference_pipeline_pointmap"
STEPS = 25
DEPTH = 4.0
"""Depth of the plane that the stand-in's depth model sees; the focal length is the diagonal."""

_HALF_EXTENTS = (0.5, 0.1, 0.4)  # of the local frame with z up; no two alike


class Gaussian:
    """Upstream's splats: what one reads of them are properties."""

    def __init__(self, xyz: torch.Tensor) -> None:
        count = len(xyz)
        self._xyz = xyz
        tilt = torch.tensor([0.9, 0.1, -0.2, 0.3])
        self._rotation = torch.nn.functional.normalize(tilt, dim=0).expand(count, 4)

    @property
    def get_xyz(self) -> torch.Tensor:
        return self._xyz

    @property
    def get_scaling(self) -> torch.Tensor:
        return torch.tensor([0.01, 0.02, 0.03]).expand(len(self._xyz), 3)

    @property
    def get_rotation(self) -> torch.Tensor:
        return self._rotation

    @property
    def get_opacity(self) -> torch.Tensor:
        return torch.full((len(self._xyz), 1), 0.9)

    @property
    def get_features(self) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, -1.0]]).expand(len(self._xyz), 1, 3)


class Generator(torch.nn.Module):
    """A sampler: `forward` calls `generate`, which goes through `generate_iter`."""

    def __init__(self) -> None:
        super().__init__()
        self.inference_steps = STEPS

    def forward(self, x_shape: Any, x_device: Any, *conditions: Any, **named: Any) -> Any:
        return self.generate(x_shape, x_device, *conditions, **named)

    def generate(self, x_shape: Any, x_device: Any, *conditions: Any, **named: Any) -> Any:
        for _, made, _ in self.generate_iter(x_shape, x_device, *conditions, **named):
            sample = made
        return sample

    def generate_iter(self, x_shape: Any, x_device: Any, *conditions: Any, **named: Any) -> Any:
        sample = torch.randn(x_shape, device=x_device)
        for step in range(self.inference_steps):
            yield step / self.inference_steps, sample, ()


class MoGe:
    """A depth model that sees a plane; its points are in OpenCV's camera frame."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        assert image.shape[0] == 3
        height, width = image.shape[1:]
        focal = float(np.hypot(height, width))
        rows, columns = torch.meshgrid(
            torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
        )
        slopes = [(columns - width / 2) / focal, (rows - height / 2) / focal]
        points = torch.stack([*slopes, torch.ones_like(rows)], dim=-1) * DEPTH
        points[0, 0] = torch.inf  # as for the sky
        intrinsics = torch.tensor([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]])
        return {"points": points, "pointmaps": points, "intrinsics": intrinsics}


class InferencePipelinePointMap:
    """The pipeline; `workspace_dir`, the networks' files and the rest come from pipeline.yaml."""

    def __init__(
        self,
        *,
        depth_model: Any,
        layout_post_optimization_method: Any = None,
        clip_pointmap_beyond_scale: float | None = None,
        ss_generator_ckpt_path: str,
        slat_generator_ckpt_path: str,
        workspace_dir: str = "",
        device: str = "cuda",
        rendering_engine: str = "nvdiffrast",
        compile_model: bool = False,
        decode_formats: Any = ("gaussian", "mesh"),
    ) -> None:
        assert rendering_engine == "pytorch3d"
        for name in (ss_generator_ckpt_path, slat_generator_ckpt_path):
            assert (Path(workspace_dir) / name).is_file()
        self.depth_model = depth_model
        self.layout_post_optimization_method = layout_post_optimization_method
        self.clip_pointmap_beyond_scale = clip_pointmap_beyond_scale
        self.device = torch.device(device)
        self.decode_formats = list(decode_formats)
        self.models = torch.nn.ModuleDict(
            {"ss_generator": Generator(), "slat_generator": Generator()}
        )
        self.clipped: list[bool] = []
        self.given_maps: list[torch.Tensor] = []
        self.failures: dict[str, Exception] = {}
        self.layouts = 0
        self.swallowed: list[Exception] = []

    def compute_pointmap(self, image: Any, pointmap: Any = None) -> dict[str, torch.Tensor]:
        self._fail("compute_pointmap")
        assert (image.shape[-1], image.dtype) == (4, np.uint8)
        self.clipped.append(self.clip_pointmap_beyond_scale is not None)
        colours = torch.from_numpy((image / 255).astype(np.float32)).permute(2, 0, 1)[:3]
        if pointmap is None:
            points = self.depth_model(colours)["pointmaps"] * torch.tensor([-1.0, -1.0, 1.0])
            # The depth model's camera is dropped.
            return {"pointmap": points.permute(2, 0, 1), "pts_color": colours}
        assert pointmap.dtype == torch.float32
        assert pointmap.shape == (*image.shape[:2], 3)
        self.given_maps.append(pointmap)
        inferred = torch.tensor([[-1.0, 0, 0.5], [0, -1.0, 0.5], [0, 0, 1]])
        return {
            "pointmap": pointmap.permute(2, 0, 1),
            "pts_color": colours,
            "intrinsics": inferred,
        }

    def sample_sparse_structure(
        self, ss_input_dict: dict[str, Any], inference_steps: Any = None, use_distillation: Any = 0
    ) -> dict[str, Any]:
        self._fail("sample_sparse_structure")
        noise = self.models["ss_generator"]((1, 8, 8), self.device)
        count = 0 if "nothing" in self.failures else 100
        coords = torch.zeros((count, 4), dtype=torch.int32)
        return {"shape": noise, "coords": coords, "downsample_factor": 1}

    def sample_slat(
        self,
        slat_input: dict[str, Any],
        coords: torch.Tensor,
        inference_steps: int | None = 25,
        use_distillation: bool = False,
    ) -> torch.Tensor:
        self._fail("sample_slat")
        sampled: torch.Tensor = self.models["slat_generator"]((len(coords), 8), self.device)
        return sampled

    def decode_slat(self, slat: Any, formats: Any = ("mesh", "gaussian")) -> dict[str, Any]:
        self._fail("decode_slat")
        assert set(formats) == {"mesh", "gaussian"}
        sphere = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
        sphere.apply_scale(_HALF_EXTENTS)
        xyz = torch.from_numpy(np.asarray(sphere.vertices, np.float32))
        return {"mesh": [sphere], "gaussian": [Gaussian(xyz)]}

    def postprocess_slat_output(
        self,
        outputs: dict[str, Any],
        with_mesh_postprocess: bool,
        with_texture_baking: bool,
        use_vertex_color: bool,
    ) -> dict[str, Any]:
        self._fail("postprocess_slat_output")
        assert (with_mesh_postprocess, with_texture_baking, use_vertex_color) == (
            False,
            False,
            True,
        )
        mesh = outputs["mesh"][0]
        y_up = mesh.vertices @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
        colors = np.tile([0.8, 0.4, 0.2], (len(y_up), 1))
        glb = trimesh.Trimesh(vertices=y_up, faces=mesh.faces, process=False, vertex_colors=colors)
        outputs["glb"] = glb
        outputs["gs"] = outputs["gaussian"][0]
        return outputs

    def run_post_optimization(
        self, mesh_glb: Any, intrinsics: torch.Tensor, pose_dict: Any, layout_input_dict: Any
    ) -> dict[str, Any]:
        self._fail("run_post_optimization")
        assert intrinsics.shape == (3, 3)
        assert min(intrinsics[0, 0], intrinsics[1, 1]) > 0
        self.layouts += 1
        return {name: pose_dict[name] for name in ("rotation", "translation", "scale")} | {
            "iou": 0.9
        }

    def run(
        self,
        image: Any,
        mask: Any = None,
        seed: int | None = None,
        stage1_only: bool = False,
        with_mesh_postprocess: bool = True,
        with_texture_baking: bool = True,
        with_layout_postprocess: bool = True,
        use_vertex_color: bool = False,
        stage1_inference_steps: int | None = None,
        stage2_inference_steps: int | None = None,
        use_stage1_distillation: bool = False,
        use_stage2_distillation: bool = False,
        pointmap: Any = None,
        decode_formats: Any = None,
        estimate_plane: bool = False,
    ) -> dict[str, Any]:
        with self.device:
            mapped = self.compute_pointmap(image, pointmap)
            if seed is not None:
                torch.manual_seed(seed)
            structure = self.sample_sparse_structure(
                {}, inference_steps=stage1_inference_steps, use_distillation=use_stage1_distillation
            )
            structure.update(self._pose(mapped["pointmap"], image[..., 3] > 0, structure["shape"]))
            slat = self.sample_slat(
                {},
                structure["coords"],
                inference_steps=stage2_inference_steps,
                use_distillation=use_stage2_distillation,
            )
            outputs = self.decode_slat(slat, decode_formats or self.decode_formats)
            outputs = self.postprocess_slat_output(
                outputs, with_mesh_postprocess, with_texture_baking, use_vertex_color
            )
            try:
                if with_layout_postprocess and self.layout_post_optimization_method is not None:
                    structure.update(
                        self.run_post_optimization(
                            outputs["glb"], mapped["intrinsics"], structure, {}
                        )
                    )
            except Exception as error:  # upstream logs it and goes on
                self.swallowed.append(error)
            return {
                **structure,
                **outputs,
                "pointmap": mapped["pointmap"].permute(1, 2, 0),
                "pointmap_colors": mapped["pts_color"].permute(1, 2, 0),
            }

    def _pose(
        self, points: torch.Tensor, mask: np.ndarray, noise: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Stand the ellipsoid upright where the mask is, its front to the camera, a little off."""
        chosen = points[:, torch.from_numpy(mask)]
        chosen = chosen[:, torch.isfinite(chosen).all(dim=0)]
        low, high = chosen.amin(dim=1), chosen.amax(dim=1)
        scale = ((high - low)[:2] / torch.tensor([1.0, 0.8])).mean()
        nudge = 0.001 * noise.flatten()[:3]
        # Rows: local x to the camera's -x (its left is positive), y away from it, z up.
        half_turn = torch.tensor([[0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]], dtype=torch.float32)
        return {
            "rotation": half_turn,
            "translation": ((low + high) / 2 + nudge)[None],
            "scale": scale.expand(1, 3),
        }

    def _fail(self, stage: str) -> None:
        if stage in self.failures:
            raise self.failures[stage]
