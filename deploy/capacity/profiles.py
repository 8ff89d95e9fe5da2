"""What a replica's work costs: measured here, or scaled from published figures.

`measured.json` is from `measure`, `assumptions.toml` says what was not measured. What runs on the
processor (the event loop, decoding, masks) is measured in both kinds of profile; only the network's
times differ.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCALINGS = ("fast", "middle", "slow")


@dataclass(frozen=True, slots=True)
class Profile:
    """What one replica costs and can do; seconds are means of service times.

    Attributes:
        label: Its name in tables.
        is_measured: Whether all of it is measured.
        loop_frame_s: Event loop, all visits of a live frame together.
        loop_call_s: Event loop, all visits of a unary call together.
        decode_s: Decoding a picture.
        encode_s: Image encoder.
        track_s: Following all objects of a session into a frame.
        prompt_s: Answering a prompt on an encoded image.
        postprocess_s: Masks at full resolution, and their encoding.
        pixel_threads: Threads for decoding and masks.
        held_embeddings: Images that the embedding cache has room for.
        price_per_hour: Of a replica.
        spread: Coefficient of variation of service times.
    """

    label: str
    is_measured: bool
    loop_frame_s: float
    loop_call_s: float
    decode_s: float
    encode_s: float
    track_s: float
    prompt_s: float
    postprocess_s: float
    pixel_threads: int
    held_embeddings: int
    price_per_hour: float
    spread: float

    @property
    def device_s(self) -> float:
        """Time that a live frame takes of the device."""
        return self.encode_s + self.track_s

    def slowed(self, loop: float, others: float) -> Profile:
        """Return this where the machine lets threads run only for a part of the time they ask for.

        Args:
            loop: The part for the event loop's thread.
            others: The part for all other threads.
        """
        return replace(
            self,
            loop_frame_s=self.loop_frame_s / loop,
            loop_call_s=self.loop_call_s / loop,
            decode_s=self.decode_s / others,
            encode_s=self.encode_s / others,
            track_s=self.track_s / others,
            prompt_s=self.prompt_s / others,
            postprocess_s=self.postprocess_s / others,
        )


@cache
def measured() -> dict[str, Any]:
    """Return what was measured."""
    content: dict[str, Any] = json.loads((FOLDER / "measured.json").read_text())
    return content


@cache
def assumptions() -> dict[str, Any]:
    """Return what was not."""
    return tomllib.loads((FOLDER / "assumptions.toml").read_text())


def profile(name: str, scaling: str = "middle") -> Profile:
    """Return a replica of `assumptions.toml` by its name.

    Args:
        name: The name.
        scaling: How times on another device follow from the published ones: fast, middle or slow.
    """
    told = assumptions()
    kind = told["replicas"][name]
    frame, prompt = measured()["live_frame"], measured()["prompt"]
    if kind["device"] == "measured":
        times = _measured_times()
    else:
        times = _scaled_times(kind["model"], kind["device"], scaling)
    return Profile(
        label=kind["label"],
        is_measured=kind["device"] == "measured",
        loop_frame_s=_cpu(frame, "event_loop_s"),
        loop_call_s=_cpu(prompt, "event_loop_s"),
        decode_s=_least(frame, "decode"),
        postprocess_s=_least(frame, "postprocess"),
        pixel_threads=kind["pixel_threads"],
        held_embeddings=told["embedding"]["cache_bytes"] // told["embedding"]["bytes"],
        price_per_hour=kind["price_per_hour"],
        spread=told["load"]["spread"],
        **times,
    )


def network_seconds(model: str, device: str, scaling: str) -> float:
    """Return the time of one object in one frame on a device, scaled as `assumptions.toml` says."""
    told = assumptions()
    reference, target = told["devices"]["a100"], told["devices"][device]
    arithmetic = float(reference["tflops"] / target["tflops"])
    bandwidth = float(reference["gigabytes_per_s"] / target["gigabytes_per_s"])
    low, high = sorted((arithmetic, bandwidth))
    factor = {"fast": low, "middle": math.sqrt(low * high), "slow": high}[scaling]
    published = told["published"][model]
    return max(factor / float(published["compiled"]), 1 / float(published["eager"]))


def _scaled_times(model: str, device: str, scaling: str) -> dict[str, float]:
    split, frame_s = assumptions()["split"], network_seconds(model, device, scaling)
    return {
        "encode_s": frame_s * split["encode"],
        "track_s": frame_s * (1 - split["encode"]) * split["second_object"],
        "prompt_s": frame_s * split["prompt"],
    }


def _measured_times() -> dict[str, float]:
    """Return the device's times as CPU time: wall times on a shared machine say too much."""
    frame, prompt = measured()["live_frame"], measured()["prompt"]
    encode_s = _least(frame, "encode")
    return {
        "encode_s": encode_s,
        "track_s": _cpu(frame, "other_threads_s")
        - encode_s
        - _least(frame, "decode")
        - _least(frame, "postprocess"),
        "prompt_s": _cpu(prompt, "other_threads_s") - _least(prompt, "postprocess"),
    }


def _cpu(part: dict[str, Any], threads: str) -> float:
    """Return the CPU time of one unit, without what the server takes while it has nothing to do.

    It is no less than that of a call that does nothing, whatever the subtraction says.
    """
    idle_s = measured()["idle"][threads] * part["round_trip"]["median_s"]
    return max(float(part["cpu"][threads] - idle_s), float(measured()["bare_call"][threads]))


def _least(part: dict[str, Any], stage: str) -> float:
    return float(part["stages"][stage]["minimum_s"])
