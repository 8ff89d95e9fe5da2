"""As much of the model hub as pulling a repository takes, on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40
GRANTED, WAITING = "hf_granted", "hf_waiting"
_LARGE = ".safetensors"


class ModelHub(ThreadingHTTPServer):
    """A hub with one repository, which may want its licence accepted.

    `files` may be changed meanwhile; what the list says of a file's size and digest stays as it was
    at the start, unless `listed` is changed too. `granted` are the tokens that may have all.
    """

    daemon_threads = True

    def __init__(self, repository: str, files: Mapping[str, bytes], *, is_gated: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.files = dict(files)
        self.listed = dict(files)
        self.is_gated = is_gated
        self.downloads: list[str] = []
        self.granted = {GRANTED}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(
    repository: str, files: Mapping[str, bytes], *, is_gated: bool = False
) -> Iterator[ModelHub]:
    with ModelHub(repository, files, is_gated=is_gated) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ModelHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        hub = self.server
        path = self.path.partition("?")[0]
        if path == f"/api/models/{hub.repository}":  # a gated repository's list is public
            return self._respond(json.dumps(self._list()).encode())
        if hub.is_gated and (refusal := self._refusal()):
            return self._refuse(*refusal)
        prefix = f"/{hub.repository}/resolve/{COMMIT}/"
        content = hub.files.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if content is None:
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            hub.downloads.append(path.removeprefix(prefix))
        return self._respond(content)

    def _list(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.server.listed.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": "b" * 40}
            if name.endswith(_LARGE):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 100}
            siblings.append(entry)
        return {"id": self.server.repository, "sha": COMMIT, "siblings": siblings}

    def _refusal(self) -> tuple[int, str] | None:
        sent = self.headers.get("Authorization", "")
        if sent.removeprefix("Bearer ") in self.server.granted:
            return None
        return (403 if sent == f"Bearer {WAITING}" else 401), "GatedRepo"

    def _respond(self, content: bytes) -> bytes:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content if self.command == "GET" else b""

    def _refuse(self, status: int, code: str) -> bytes:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return b""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
