from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from maskwire_server.engines.sam2.preprocessing import network_input


@pytest.mark.parametrize("shape", [(64, 64), (200, 131), (31, 400), (1, 1)])
def test_the_input_is_upstreams_bit_for_bit(shape: tuple[int, int]):
    from sam2.utils.transforms import SAM2Transforms

    pixels = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        expected = SAM2Transforms(64, 0.0)(pixels)
    pixels.flags.writeable = False
    got = network_input(pixels, 64, torch.device("cpu"))
    assert got.shape == (1, 3, 64, 64)
    assert torch.equal(got[0], expected)
