"""Untrusted image bytes: every accepted form decodes right, every broken one is refused by rule."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.images import (
    ImageFormat,
    ImageLimits,
    decode_image,
    image_digest,
    parse_data_uri,
    read_header,
)

LIMITS = ImageLimits(max_bytes=2_000_000, max_pixels=4_000_000, max_side_px=4_000)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF"]


def picture(width=64, height=40, mode="RGB"):
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)]
    image = Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))
    return image.convert(mode)


def save(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif_block(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def refusal(data, limits=LIMITS):
    """Return the error of `decode_image`, which `read_header` must not contradict."""
    with pytest.raises(MaskwireError) as caught:
        decode_image(data, limits, field="image.data")
    assert caught.value.violations[0].field == "image.data"
    return caught.value


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width, height, body, *extra):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_format_decodes_as_pillow_decodes_it(file_format):
    data = save(picture(), file_format)
    header = read_header(data, LIMITS)
    assert header.format is ImageFormat[file_format]
    assert header.content_type == f"image/{file_format.lower()}"
    assert header.size == ImageSize(width_px=64, height_px=40)
    pixels = decode_image(data, LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_is_bit_equal_to_pillow(mode, options):
    data = save(picture(301, 203, mode), "JPEG", quality=85, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, LIMITS), expected)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(file_format, orientation):
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = save(picture(), file_format, exif=exif_block(orientation), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    header = read_header(data, LIMITS)
    assert header.orientation == orientation
    assert (header.size.width_px, header.size.height_px) == upright.size
    pixels = decode_image(data, LIMITS)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(upright))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png_becomes_rgb_without_its_transparency(mode):
    image = picture(mode=mode)
    data = save(image, "PNG")
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, LIMITS), expected)


def test_transparency_shows_the_colours_beneath():
    colours = np.asarray(picture())
    alpha = np.zeros((40, 64, 1), dtype=np.uint8)
    data = save(Image.fromarray(np.concatenate([colours, alpha], axis=2)), "PNG")
    np.testing.assert_array_equal(decode_image(data, LIMITS), colours)
    # A palette with transparency in bytes makes Pillow's own conversion warn.
    palette = picture(mode="P")
    data = save(palette, "PNG", transparency=bytes(range(256)))
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, LIMITS), expected)


def test_sixteen_bit_values_keep_their_high_byte():
    values = (np.arange(64 * 40, dtype=np.uint32).reshape(40, 64) * 25).astype(np.uint16)
    pixels = decode_image(save(Image.fromarray(values), "PNG"), LIMITS)
    np.testing.assert_array_equal(pixels, np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(file_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = save(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    pixels = decode_image(data, LIMITS)
    np.testing.assert_array_equal(pixels, np.broadcast_to([255, 0, 0], (10, 20, 3)))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must not be empty"),
        (b"\x00" * 100, "must be a JPEG, PNG, WebP, GIF or AVIF image"),
        (b"plain text, no picture", "must be a JPEG"),
        (save(picture(), "TIFF"), "must be a JPEG"),
        (save(picture(), "BMP"), "must be a JPEG"),
        (save(picture(), "PPM"), "must be a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be a JPEG"),
    ],
)
def test_what_is_no_accepted_image_is_refused(data, rule):
    error = refusal(data)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations[0].description.startswith(rule)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.98])
def test_cut_off_files_are_refused(file_format, kept):
    data = save(picture(200, 150), file_format)
    assert refusal(data[: int(len(data) * kept)]).code is ErrorCode.INVALID_ARGUMENT


def test_limits_name_the_value_and_the_limit():
    data = save(picture(100, 50), "PNG")
    error = refusal(data, ImageLimits(max_bytes=len(data) - 1))
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert error.message == f"image.data: {len(data)} bytes exceed the limit of {len(data) - 1}"
    error = refusal(data, ImageLimits(max_pixels=4_999))
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert "100 x 50 = 5000 pixels exceed the limit of 4999" in error.message
    error = refusal(data, ImageLimits(max_side_px=99))
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert "100 x 50 pixels exceed the limit of 99 px a side" in error.message
    exact = ImageLimits(max_bytes=len(data), max_pixels=5_000, max_side_px=100)
    assert decode_image(data, exact).shape == (50, 100, 3)


def test_a_small_file_of_many_pixels_is_refused_without_being_inflated():
    deflate = zlib.compressobj(9)
    blocks = [
        deflate.compress(b"\0" * (1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    ]
    body = blocks[0] + blocks[1] * 482  # after a full flush the same megabyte is the same bytes
    assert len(zlib.decompressobj().decompress(body, 3 << 20)) == 3 << 20
    bomb = png_of(22_500, 22_500, body)
    assert len(bomb) < 600_000
    tracemalloc.start()
    try:
        error = refusal(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert peak < 4 * len(bomb)


def gif_of(screen, frame):
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return header + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def webp_of(kind, body):
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize(
    "data",
    [
        png_of(60_000, 60_000, b""),
        gif_of((60_000, 60_000), (1, 1)),
        gif_of((1, 1), (60_000, 60_000)),
        webp_of(b"VP8X", b"\0\0\0\0" + (59_999).to_bytes(3, "little") * 2),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xea\x60\xea\x60\x03" + b"\1\x11\0" * 3 + b"\xff\xda\0\2",
    ],
)
def test_headers_that_claim_huge_sizes_are_refused(data):
    with pytest.raises(MaskwireError, match="exceed") as caught:
        read_header(data, LIMITS)
    assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE


def test_sizes_between_pillows_warning_and_error_do_not_warn():
    vast = ImageLimits(max_pixels=1 << 40, max_side_px=1 << 20)
    assert refusal(png_of(10_000, 10_000, b""), vast).code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xff",
        b"\xff\xd8\xff\xe0\x00\x04\0\0\x00",
        b"\xff\xd8\xff\xda\x00\x02",
        b"\xff\xd8" + b"\xff\xe1\x00\x02" * 70_000,
        b"\xff\xd8\xff" + b"\xff\xda" * 600,
        b"\x89PNG\r\n\x1a\n",
        png_of(0, 5, b""),
        png_of(5, 5, b"", *[(b"tEXt", b"")] * 70_000),
        b"RIFF\x10\0\0\0WEBP",
        webp_of(b"ALPH", b"\0" * 20),
        b"GIF89a\1\0\1\0\0\0\0;",
        b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 70_000,
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    ],
)
def test_malformed_structures_are_refused(data):
    assert refusal(data).code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_compressed_metadata_cannot_fill_the_memory(chunk):
    bomb = zlib.compress(b"\0" * 50_000_000)
    dirty = png_of(2, 2, zlib.compress(b"\0\x10\x20" * 2), (chunk, b"k\0\0" + bomb))
    tracemalloc.start()
    try:
        error = refusal(dirty)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert peak < 8_000_000


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, which the log receives
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0" + b"\xff" * 40, exif_block(9), exif_block(0)])
def test_metadata_that_makes_no_sense_leaves_the_image_upright(mode, exif):
    data = save(picture(mode=mode), "JPEG", exif=exif)
    assert read_header(data, LIMITS).orientation == 1
    assert decode_image(data, LIMITS).shape == (40, 64, 3)


SEEDS = [save(picture(24, 16), file_format) for file_format in FORMATS]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_decode_or_are_refused(data):
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(damaged) // 2, len(damaged))) :]
    refused = None
    try:
        pixels = decode_image(bytes(damaged), LIMITS)
    except MaskwireError as error:
        refused = error.code
    allowed = (ErrorCode.INVALID_ARGUMENT, ErrorCode.PAYLOAD_TOO_LARGE)
    assert refused in allowed or pixels.shape[2] == 3


def test_digest_is_the_sha256_of_the_bytes():
    assert image_digest(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("head", ["data:image/png;base64", "data:;base64", "DATA:x;name=y;BASE64"])
def test_data_uris_give_their_bytes(head):
    data = bytes(range(256))
    assert parse_data_uri(f"{head},{base64.b64encode(data).decode()}", LIMITS) == data


def test_data_uris_may_be_percent_encoded():
    assert parse_data_uri("data:,a%20%ffb", LIMITS) == b"a \xffb"


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("http://example.org/a.png", "must have the form"),
        ("data:image/png;base64", "must have the form"),
        ("data:image/png;base64,@@@@", "well-formed base64"),
        ("data:image/png;base64,AAA", "well-formed base64"),
        ("data:image/png;base64,AAA\u00e9", "well-formed base64"),
    ],
)
def test_broken_data_uris_are_refused(uri, rule):
    with pytest.raises(MaskwireError, match=rule) as caught:
        parse_data_uri(uri, LIMITS)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "image.uri"


@pytest.mark.parametrize("size", [99, 100, 101, 102, 103])
@pytest.mark.parametrize("percent", [False, True])
def test_size_of_a_data_uri_is_checked_before_it_is_decoded(size, percent):
    limits = ImageLimits(max_bytes=101)
    body = "%41" * size if percent else base64.b64encode(b"A" * size).decode()
    uri = f"data:{'' if percent else ';base64'},{body}"
    if size <= 101:
        assert parse_data_uri(uri, limits) == b"A" * size
    else:
        with pytest.raises(MaskwireError, match=f"{size} bytes exceed the limit of 101") as caught:
            parse_data_uri(uri, limits)
        assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE
