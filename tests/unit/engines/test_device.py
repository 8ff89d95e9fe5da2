from __future__ import annotations

import pytest
import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines.device import Placement, reporting_device_failure, resolve


@pytest.fixture
def accelerators(monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes torch see the given accelerators."""

    def see(*, cuda_count: int = 0, is_bf16_native: bool = True, has_mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda_count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda_count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            "maskwire_server.engines.device._is_bf16_native",
            lambda device: device.type == "cuda" and is_bf16_native,
        )
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)

    return see


@pytest.mark.parametrize(
    ("seen", "asked", "expected"),
    [
        ({}, ("auto", "auto"), ("cpu", "fp32")),
        ({}, ("cpu", "bf16"), ("cpu", "bf16")),
        ({"cuda_count": 2}, ("auto", "auto"), ("cuda:0", "bf16")),
        ({"cuda_count": 2}, ("cuda:1", "fp32"), ("cuda:1", "fp32")),
        ({"cuda_count": 2, "has_mps": True}, ("cpu", "auto"), ("cpu", "fp32")),
        ({"cuda_count": 1, "is_bf16_native": False}, ("cuda", "auto"), ("cuda:0", "fp32")),
        ({"has_mps": True}, ("auto", "auto"), ("mps", "fp32")),
    ],
)
def test_words_become_a_placement(accelerators, seen, asked, expected):
    accelerators(**seen)
    placement = resolve(*asked)
    assert (str(placement.device), placement.precision) == expected


@pytest.mark.parametrize(
    ("seen", "asked", "named"),
    [
        ({}, "cuda", "cuda"),
        ({}, "cuda:0", "cuda:0"),
        ({"cuda_count": 2}, "cuda:2", "cuda:2"),
        ({}, "mps", "mps"),
        ({}, "toaster", "toaster"),
        ({}, "meta", "meta"),
    ],
)
def test_an_absent_device_is_named(accelerators, seen, asked, named):
    accelerators(**seen)
    with pytest.raises(MaskwireError, match=named) as caught:
        resolve(asked)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_autocast_ends_with_the_computation():
    placement = Placement(torch.device("cpu"), "bf16")
    with placement.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    with Placement(torch.device("cpu"), "fp32").autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("raised", "words"),
    [(torch.OutOfMemoryError("CUDA out of memory"), "out of memory"), (MemoryError(), "failed")],
)
def test_a_failing_device_makes_the_model_unavailable(raised: Exception, words: str):
    with pytest.raises(MaskwireError, match=words) as caught, reporting_device_failure("large"):
        raise raised
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert caught.value.resource == "large"


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), reporting_device_failure("large"):
        _ = 1 // 0
