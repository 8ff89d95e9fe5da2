"""Texts to what SAM 3's detector takes; the newest are kept, so that each is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from maskwire_server.domain.errors import invalid_field

# What upstream's processor puts where only exemplars say what is wanted.
_EXEMPLARS_ALONE = "visual"
# Texts kept. The published network takes 32 KiB for each, so 16 MiB in all.
TEXTS_KEPT = 512


@dataclass(frozen=True, slots=True, eq=False)
class TextFeatures:
    """A text as the detector takes it; on the engine's device.

    Attributes:
        features: Shape (1, tokens, width), projected to the detector's width.
        attention_mask: Shape (1, tokens), int64: 1 for the text's tokens, 0 for the padding.
    """

    features: torch.Tensor
    attention_mask: torch.Tensor


class TextEncoder:
    """The detector's tokenizer and text encoder, with a bounded memory of texts."""

    def __init__(self, detector: Any, tokenizer: Any, *, kept: int = TEXTS_KEPT) -> None:
        """Take the parts of a loaded network.

        Args:
            detector: A `transformers.Sam3Model` on its device.
            tokenizer: The checkpoint's `transformers.CLIPTokenizer`.
            kept: Most texts remembered; the least recently used is forgotten first.
        """
        self._detector = detector
        self._tokenizer = tokenizer
        self._kept = kept
        self._length: int = detector.config.text_config.max_position_embeddings
        self._features: OrderedDict[str, TextFeatures] = OrderedDict()

    def encode(self, text: str, field: str = "text") -> TextFeatures:
        """Return the features of a text; empty means that exemplars alone say what is wanted.

        Args:
            text: The text.
            field: Its path in the request, for error messages.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` where the text has more tokens than the network reads.
        """
        text = text.strip() or _EXEMPLARS_ALONE
        known = self._features.get(text)
        if known is not None:
            self._features.move_to_end(text)
            return known
        features = self._encode(text, field)
        self._features[text] = features
        if len(self._features) > self._kept:
            self._features.popitem(last=False)
        return features

    def _encode(self, text: str, field: str) -> TextFeatures:
        tokens = self._tokenizer(
            text, return_tensors="pt", padding="max_length", max_length=self._length
        )
        count = tokens.input_ids.shape[1]
        if count > self._length:
            raise invalid_field(
                field,
                f"has {count} tokens, but the model reads at most {self._length}: "
                "name the concept in a few words",
            )
        attention_mask = tokens.attention_mask.to(self._detector.device)
        encoded = self._detector.get_text_features(
            input_ids=tokens.input_ids.to(self._detector.device), attention_mask=attention_mask
        )
        return TextFeatures(encoded.pooler_output, attention_mask)
