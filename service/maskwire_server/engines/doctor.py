"""What can be told of the device without a model."""

from __future__ import annotations

import torch

from .device import resolve


def describe_device(device: str, precision: str) -> str:
    """Return a line about the device that a word of the settings means.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where it is unknown or absent.
    """
    placement = resolve(device, precision)
    if placement.device.type != "cuda":
        threads = torch.get_num_threads()
        return f"{placement.device}, {placement.precision}, {threads} threads"
    name = torch.cuda.get_device_name(placement.device)
    free, total = torch.cuda.mem_get_info(placement.device)
    return (
        f"{placement.device}, {placement.precision}, {name}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )
