"""Sizes, points and boxes."""

from __future__ import annotations

from maskwire.v1 import geometry_pb2

from ...domain.geometry import Box, ImageSize, Point


def image_size_to_proto(size: ImageSize) -> geometry_pb2.ImageSize:
    """Write a size."""
    return geometry_pb2.ImageSize(width_px=size.width_px, height_px=size.height_px)


def image_size_from_proto(message: geometry_pb2.ImageSize) -> ImageSize:
    """Read a size."""
    return ImageSize(width_px=message.width_px, height_px=message.height_px)


def point_to_proto(point: Point) -> geometry_pb2.Point:
    """Write a point."""
    return geometry_pb2.Point(x=point.x, y=point.y)


def point_from_proto(message: geometry_pb2.Point) -> Point:
    """Read a point."""
    return Point(x=message.x, y=message.y)


def box_to_proto(box: Box) -> geometry_pb2.Box:
    """Write a box by its corners."""
    return geometry_pb2.Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def box_from_proto(message: geometry_pb2.Box) -> Box:
    """Read a box that is given by its corners."""
    return Box(x_min=message.x_min, y_min=message.y_min, x_max=message.x_max, y_max=message.y_max)


def box_from_sized_proto(message: geometry_pb2.SizedBox) -> Box:
    """Read a box that is given by a corner and its size."""
    return Box(
        x_min=message.x,
        y_min=message.y,
        x_max=message.x + message.width,
        y_max=message.y + message.height,
    )


def normalized_box_to_proto(box: Box, size: ImageSize) -> geometry_pb2.NormalizedBox:
    """Write a box by its centre and size in fractions of the image."""
    return geometry_pb2.NormalizedBox(
        center_x=(box.x_min + box.x_max) / 2 / size.width_px,
        center_y=(box.y_min + box.y_max) / 2 / size.height_px,
        width=box.width / size.width_px,
        height=box.height / size.height_px,
    )
