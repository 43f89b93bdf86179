"""Image formats by a file's first bytes and by its suffix, and PNG files without their texts."""

import io
import re
import zlib
from pathlib import PurePosixPath
from typing import IO

#: What messages call the formats that are read.
READABLE = "PNG, JPEG, WebP, BMP or PNM image"
#: The decoders of Pillow that are allowed.
DECODERS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "PPM")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".webp", ".bmp", ".dib"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
#: Suffixes of image formats that are not supported: rejected by name rather than silently skipped.
OTHERS = (
    *(".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".dng", ".cr2"),
    *(".cr3", ".nef", ".arw", ".orf", ".rw2", ".psd", ".ico", ".svg", ".tga", ".pcx", ".pam", ".pfm", ".exr", ".hdr"),
    *(".qoi", ".dds", ".dcm", ".xcf"),
)
HEAD = 64  # bytes that identify a format

_SUPPORTED = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WebP": rb"RIFF....WEBP",
    # Two letters alone may start any file: the rest of the header must fit too.
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00",
    "PNM": rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(?:\d+\s+\d+\s|#)",
}
_OTHER = {
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+",
    "HEIF or AVIF": rb"....ftyp(?:hei|hev|mif|msf|avi[fs])",
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\x00\x00\x00\x0cJXL |\xff\x0a",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "QOI": rb"qoif",
    "DDS": rb"DDS ",
    "PFM or PAM": rb"P[Ff7]\s+[\d#A-Z]",
}


def readable_format(head: bytes) -> str | None:
    """The readable image format that a file's first bytes show, or None."""
    return _match(_SUPPORTED, head)


def other_format(head: bytes) -> str | None:
    """The image format that a file's first bytes show, of those that are not read, or None."""
    return _match(_OTHER, head)


def suffix(name: str) -> str:
    """The last suffix of a name inside a folder or an archive, in lower case."""
    return PurePosixPath(name).suffix.lower()


def _match(patterns: dict[str, bytes], head: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if re.match(pattern, head, re.DOTALL)), None)


TEXT_LIMIT = 2**20  # bytes of one text or profile, unpacked, as in Pillow
TEXT_TOTAL = 2**22  # bytes of all texts that are kept
SKIPPED_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def without_large_text(stream: IO[bytes]) -> IO[bytes]:
    """A PNG without its colour profile and its larger texts, which have no effect on its pixels.

    Smaller texts stay, since they may contain the orientation.
    """
    kept = [stream.read(8)]
    total = 0
    while len(head := stream.read(8)) == 8:
        kind, length = head[4:], int.from_bytes(head[:4], "big")
        body = stream.read(length + 4)
        if kind in SKIPPED_CHUNKS:
            size = _unpacked(body[:-4]) if kind != b"iCCP" else TEXT_TOTAL
            total += size
            if size >= TEXT_LIMIT or total > TEXT_TOTAL:
                continue
        kept += (head, body)
        if kind == b"IEND":
            break
    return io.BytesIO(b"".join(kept))


def _unpacked(body: bytes) -> int:
    """The size of a text that may be compressed; at least `TEXT_LIMIT` if it is larger than that."""
    at = body.find(b"\x78")  # the first byte of zlib's header
    largest = len(body)
    while at >= 0 and largest < TEXT_LIMIT:
        try:
            return max(largest, len(zlib.decompressobj().decompress(body[at:], TEXT_LIMIT)))
        except zlib.error:  # a letter x
            at = body.find(b"\x78", at + 1)
    return largest
