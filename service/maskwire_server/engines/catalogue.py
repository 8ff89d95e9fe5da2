"""The models that Maskwire knows by name: what runs them, where their weights come from.

Facts only. Fetching and converting weights lives in `checkpoints`, loading in the engines. A model
that is not listed here is served as well: the settings then name its engine, config and checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskwire_server.domain.errors import ErrorCode, MaskwireError

DEFAULT_MODEL = "maskwire-nano"


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """Weights on the model hub.

    Attributes:
        repository: Repository on the hub.
        filename: File in it, in torch's format: `{"model": state_dict}`.
        sha256: Digest of that file in hexadecimal.
        size_bytes: Its size.
    """

    repository: str
    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A checkpoint of several files on the model hub: weights, configuration, tokenizer.

    The files that are fetched are chosen by name from the repository's list, which has the size and
    digest of each large one; the weights are safetensors.

    Attributes:
        repository: Repository on the hub.
        patterns: Which of its files belong to the checkpoint, as shell patterns.
        is_gated: Whether the hub wants the licence accepted first, and so a token.
    """

    repository: str
    patterns: tuple[str, ...]
    is_gated: bool


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: The name that requests use.
        engine: Entry-point name of the engine that runs it.
        summary: One line for people who choose.
        license: SPDX identifier of the weights' licence.
        config: Name of the architecture's file inside the engine's model library; empty where the
            engine knows only one architecture.
        published: Where the weights come from; None where they ship with Maskwire or are a folder.
        published_folder: Where the folder comes from; None where the weights are one file or ship.
    """

    name: str
    engine: str
    summary: str
    license: str
    config: str = ""
    published: PublishedCheckpoint | None = None
    published_folder: PublishedFolder | None = None

    @property
    def is_pulled(self) -> bool:
        """Whether the weights must be fetched before the model can be served."""
        return self.published is not None or self.published_folder is not None


def _sam2(size: str, config: str, summary: str, sha256: str, size_bytes: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=f"sam2.1-hiera-{size}",
        engine="sam2",
        summary=summary,
        license="Apache-2.0",
        config=f"configs/sam2.1/sam2.1_hiera_{config}.yaml",
        published=PublishedCheckpoint(
            repository=f"facebook/sam2.1-hiera-{size}",
            filename=f"sam2.1_hiera_{size.replace('-', '_')}.pt",
            sha256=sha256,
            size_bytes=size_bytes,
        ),
    )


_ENTRIES = (
    CatalogueEntry(
        name=DEFAULT_MODEL,
        engine="nano",
        summary="Ships with Maskwire: small and quick on a CPU, for trying out and for tests.",
        license="Apache-2.0",
    ),
    _sam2(
        "tiny",
        "t",
        "SAM 2.1 with 39 M parameters: the quickest of the family.",
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        156_008_466,
    ),
    _sam2(
        "small",
        "s",
        "SAM 2.1 with 46 M parameters.",
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        184_416_285,
    ),
    _sam2(
        "base-plus",
        "b+",
        "SAM 2.1 with 81 M parameters.",
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        323_606_802,
    ),
    _sam2(
        "large",
        "l",
        "SAM 2.1 with 224 M parameters: the most accurate of the family.",
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        898_083_611,
    ),
    CatalogueEntry(
        name="sam3",
        engine="sam3",
        summary="SAM 3 with 0.9 B parameters: finds concepts by text and exemplars.",
        license="SAM License",
        published_folder=PublishedFolder(
            repository="facebook/sam3",
            patterns=("*.json", "*.safetensors", "merges.txt", "LICENSE"),
            is_gated=True,
        ),
    ),
)


def entries() -> tuple[CatalogueEntry, ...]:
    """Return every named model, the default first."""
    return _ENTRIES


def find(name: str) -> CatalogueEntry | None:
    """Return the entry of a name, or None where the name is not in the catalogue."""
    return next((entry for entry in _ENTRIES if entry.name == name), None)


def require(name: str) -> CatalogueEntry:
    """Return the entry of a name.

    Raises:
        MaskwireError: `MODEL_NOT_FOUND`, naming those that exist.
    """
    entry = find(name)
    if entry is None:
        known = ", ".join(entry.name for entry in _ENTRIES)
        raise MaskwireError(
            ErrorCode.MODEL_NOT_FOUND,
            f"model {name!r} is not in the catalogue; it has {known}",
            resource=name,
        )
    return entry
