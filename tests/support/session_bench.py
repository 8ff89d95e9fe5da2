"""A session's core between a script of requests and a script of answers, without a connection."""

from __future__ import annotations

from concurrent.futures import Future

from maskwire.v1 import realtime_pb2
from maskwire_client import (
    DropPolicy,
    Frame,
    MaskEncoding,
    Point,
    errors,
)
from maskwire_client._session_core import Control, Request, SessionCore
from maskwire_client._session_messages import Prompts, SessionArguments, frame_draft
from tests.support import scripted_sessions as scripted

UNAVAILABLE = errors.Unavailable("gone", status="UNAVAILABLE")
DEFAULTS = {
    "model": "",
    "encoding": MaskEncoding.COCO_RLE,
    "drop_policy": DropPolicy.PROCESS_ALL,
    "every_nth_frame": 1,
    "on_change_only": False,
    "change_iou_threshold": None,
    "mark_unchanged": False,
    "crop_to_box": False,
    "max_objects": None,
    "held_frames": None,
    "heartbeat_interval_s": None,
    "include_scores": True,
    "include_boxes": False,
    "include_logits": False,
    "return_multiple_masks": False,
    "max_masks": None,
    "postprocess": None,
    "resume_from": None,
    "reconnect": None,
    "window": 8,
    "jpeg_quality": 95,
}


def arguments(**options) -> SessionArguments:
    return SessionArguments(**{**DEFAULTS, **options})


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A session with a connection and a server that are carried by hand."""

    def __init__(self, **options) -> None:
        self.clock = Clock()
        self.core = SessionCore(arguments(**options), self.clock)
        self.configs: list[Request] = []
        self.stream = scripted.Stream(realtime_pb2.SessionConfig(), 0)
        self.connect()

    def connect(self, *, start: bool = True) -> None:
        config = self.core.open()
        self.configs.append(config)
        if start:
            self.core.receive(scripted._started(config.sequence, self.stream, 1))

    def add(self, *, frame_id: int | None = None, click: bool = False, **options):
        prompts = Prompts(points=[Point(1, 1)] if click else ())
        draft = frame_draft(Frame(b"x", frame_id), prompts, None)
        return self.core.add_frame(draft, **options)

    def control(self, **fields) -> Future:
        waiter: Future = Future()
        self.core.add_control(Control(**fields), waiter)
        return waiter

    def send(self) -> list[Request]:
        taken = []
        while (request := self.core.take()) is not None:
            taken.append(request)
        return taken

    def answer(self, *requests: Request) -> None:
        for request in requests:
            for response in scripted.answer(request, self.stream):
                self.core.receive(response)


def kinds(requests: list[Request]) -> list[str | None]:
    return [one.control.WhichOneof("control") or one.WhichOneof("message") for one in requests]
