from __future__ import annotations

from collections.abc import Iterator

import pytest

from maskwire_server.domain.file_decoder import FileDecoder, InProcessDecoder
from tests.support.decoders import decoder_pool


@pytest.fixture(scope="module", params=["in process", "child processes"])
def decoder(request: pytest.FixtureRequest) -> Iterator[FileDecoder]:
    if request.param == "in process":
        yield InProcessDecoder()
    else:
        with decoder_pool() as pool:
            yield pool.of_tenant("acme")
