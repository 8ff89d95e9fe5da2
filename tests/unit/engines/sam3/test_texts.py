from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines.sam3.loading import Sam3Parts, load_parts
from maskwire_server.engines.sam3.texts import TextEncoder


@pytest.fixture(scope="module")
def parts(small_sam3: Path) -> Sam3Parts:
    return load_parts(small_sam3)


@pytest.fixture
def encoded(parts: Sam3Parts) -> Iterator[list[object]]:
    """Note what runs through the text encoder."""
    calls: list[object] = []
    detector = parts.model.detector_model
    hook = detector.text_encoder.register_forward_hook(lambda *call: calls.append(call))
    with torch.inference_mode():
        yield calls
    hook.remove()


def encoder(parts: Sam3Parts, kept: int = 3) -> TextEncoder:
    return TextEncoder(parts.model.detector_model, parts.tokenizer, kept=kept)


def test_a_text_is_encoded_once(parts: Sam3Parts, encoded: list[object]):
    texts = encoder(parts)
    first = texts.encode("red disc")
    assert texts.encode(" red disc ") is first, "space around a text says nothing"
    assert len(encoded) == 1
    assert first.features.shape == (1, 32, 64)
    assert int(first.attention_mask.sum()) == len("red") + len("disc") + 2


def test_the_least_recently_used_text_is_forgotten(parts: Sam3Parts, encoded: list[object]):
    texts = encoder(parts, kept=3)
    for text in ("a", "b", "c", "a", "d"):  # d takes the place of b
        texts.encode(text)
    assert len(encoded) == 4
    for text in ("a", "c", "d"):
        texts.encode(text)
    assert len(encoded) == 4
    texts.encode("b")
    assert len(encoded) == 5
    for number in range(50):
        texts.encode(f"{number}")
    assert len(texts._features) == 3


def test_no_text_means_what_upstream_means_by_it(parts: Sam3Parts, encoded: list[object]):
    texts = encoder(parts)
    assert texts.encode("") is texts.encode("visual")


def test_a_text_that_the_network_cannot_read_whole_is_refused(parts: Sam3Parts):
    texts = encoder(parts)
    with torch.inference_mode():
        texts.encode("x" * 30)
        with pytest.raises(MaskwireError, match=r"33 tokens.*at most 32") as caught:
            texts.encode("x" * 31)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "text"
