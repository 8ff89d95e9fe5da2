"""Client library of Maskwire: promptable segmentation over gRPC.

    from maskwire_client import Client, Point

    with Client("localhost:50051") as client:
        result = client.segment("photo.jpg", points=[Point(220, 140)])
        print(result.masks[0].score, result.masks[0].bitmap.shape)

Everything public is here; `errors` draws the tree of exceptions. The command line lives in `cli`.
"""

from . import errors
from ._async_client import AsyncClient
from ._async_job_results import (
    AsyncBodiesResult,
    AsyncJobResult,
    AsyncObjectsResult,
    AsyncTrackedVideoResult,
)
from ._async_job_watch import AsyncJobWatch, AsyncReconstruction
from ._async_session import AsyncSession
from ._async_streaming import AsyncResultStream
from ._async_video import AsyncVideoTrack
from ._channel import Tls
from ._client import Client
from ._job_results import BodiesResult, JobResult, ObjectsResult, TrackedVideoResult
from ._job_watch import JobWatch, Reconstruction
from ._session import Session
from ._streaming import ResultStream
from ._video import VideoTrack
from .automatic import AutoSegmentUpdate
from .body_keypoints import BodyKeypoint
from .errors import MaskwireError
from .frames import Camera, Frame, FrameInput, ImageFolder, VideoFile, paced
from .geometry import Box, BoxLabel, ImageSize, NormalizedBox, Point, PointLabel
from .images import EncodedImage, ImageInput, ImageReference, encode_image, load_image
from .jobs import (
    AutoSegmentCall,
    Job,
    JobCall,
    JobEvent,
    JobState,
    SegmentCall,
    TrackVideoCall,
    WebhookDelivery,
    WebhookState,
)
from .masks import (
    CocoRle,
    CocoRleCounts,
    CroppedMask,
    EncodedMask,
    Mask,
    MaskLogits,
    PngMask,
    Polygon,
    PolygonMask,
    ScoreKind,
)
from .options import (
    AutoSegmentOptions,
    Delivery,
    MaskEncoding,
    PictureFormat,
    Postprocess,
    Rendering,
    RenderingStyle,
)
from .prompts import BoxLike, MaskPrompt, PointLike, PromptLike, Text
from .reconstruction import (
    Artifact,
    ArtifactKind,
    CameraIntrinsics,
    Keypoint,
    MapInput,
    ObjectMask,
    ReconstructBodiesCall,
    ReconstructedBody,
    ReconstructedObject,
    ReconstructObjectsCall,
    SceneAlignment,
)
from .results import (
    Capability,
    ImageInfo,
    LoadState,
    Model,
    ModelReference,
    Picture,
    ProcessingInfo,
    PromptKind,
    SegmentationResult,
    StoredFile,
    Timings,
)
from .sessions import (
    DrainNotice,
    DroppedFrame,
    DropPolicy,
    DropReason,
    FrameResult,
    Heartbeat,
    LostFrame,
    ObjectState,
    Reconnect,
    SessionSeed,
    SessionSummary,
    TrackedMask,
)
from .videos import (
    OverlayVideo,
    TrackDirection,
    TrackProgress,
    VideoFrame,
    VideoInfo,
    VideoInput,
    VideoSummary,
)

__all__ = [
    "Artifact",
    "ArtifactKind",
    "AsyncBodiesResult",
    "AsyncClient",
    "AsyncJobResult",
    "AsyncJobWatch",
    "AsyncObjectsResult",
    "AsyncReconstruction",
    "AsyncResultStream",
    "AsyncSession",
    "AsyncTrackedVideoResult",
    "AsyncVideoTrack",
    "AutoSegmentCall",
    "AutoSegmentOptions",
    "AutoSegmentUpdate",
    "BodiesResult",
    "BodyKeypoint",
    "Box",
    "BoxLabel",
    "BoxLike",
    "Camera",
    "CameraIntrinsics",
    "Capability",
    "Client",
    "CocoRle",
    "CocoRleCounts",
    "CroppedMask",
    "Delivery",
    "DrainNotice",
    "DropPolicy",
    "DropReason",
    "DroppedFrame",
    "EncodedImage",
    "EncodedMask",
    "Frame",
    "FrameInput",
    "FrameResult",
    "Heartbeat",
    "ImageFolder",
    "ImageInfo",
    "ImageInput",
    "ImageReference",
    "ImageSize",
    "Job",
    "JobCall",
    "JobEvent",
    "JobResult",
    "JobState",
    "JobWatch",
    "Keypoint",
    "LoadState",
    "LostFrame",
    "MapInput",
    "Mask",
    "MaskEncoding",
    "MaskLogits",
    "MaskPrompt",
    "MaskwireError",
    "Model",
    "ModelReference",
    "NormalizedBox",
    "ObjectMask",
    "ObjectState",
    "ObjectsResult",
    "OverlayVideo",
    "Picture",
    "PictureFormat",
    "PngMask",
    "Point",
    "PointLabel",
    "PointLike",
    "Polygon",
    "PolygonMask",
    "Postprocess",
    "ProcessingInfo",
    "PromptKind",
    "PromptLike",
    "Reconnect",
    "ReconstructBodiesCall",
    "ReconstructObjectsCall",
    "ReconstructedBody",
    "ReconstructedObject",
    "Reconstruction",
    "Rendering",
    "RenderingStyle",
    "ResultStream",
    "SceneAlignment",
    "ScoreKind",
    "SegmentCall",
    "SegmentationResult",
    "Session",
    "SessionSeed",
    "SessionSummary",
    "StoredFile",
    "Text",
    "Timings",
    "Tls",
    "TrackDirection",
    "TrackProgress",
    "TrackVideoCall",
    "TrackedMask",
    "TrackedVideoResult",
    "VideoFile",
    "VideoFrame",
    "VideoInfo",
    "VideoInput",
    "VideoSummary",
    "VideoTrack",
    "WebhookDelivery",
    "WebhookState",
    "encode_image",
    "errors",
    "load_image",
    "paced",
]
