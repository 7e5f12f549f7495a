"""Image files to pixels: decoded, turned, resized, and written to a pack chunk by chunk.

This module imports neither PyTorch nor the rest of the package. A process that only decodes (`serve`, started by
`data.pack`) therefore starts quickly and takes little memory.

Why Pillow: torchvision's own decoder takes half the time for faces of 178 x 218 and gives the same pixels, but it is
deprecated since torchvision 0.29 and will be removed. PyTorch's resizing is at best a fifth faster and differs by a
grey level. Pillow's draft mode reads photographs of 12 megapixels nine times as fast, and is used for them.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
Files = npt.NDArray[np.void]
STAMPS = ("size", "mtime", "ctime")  # what tells that a file may have changed; -1 if it is missing
# a change of an image's file alters `ctime` even if a program sets `mtime` back, as unpacking and copying may
FILE = np.dtype([*((stamp, "<i8") for stamp in STAMPS), ("digest", "u1", 32)])  # bytes, nanoseconds, SHA-256
# exceptions of Pillow and its plug-ins for broken files
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    subprocess.SubprocessError,  # from formats that Pillow passes to other programs
)
# large images are allowed, and `reason_of` names those that are too large: Pillow's warning does not help
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_MOST = os.environ.get("MTLBENCH_MAX_PIXELS", "")
if _MOST.isdecimal():  # Pillow refuses images of more than twice this number of pixels
    Image.MAX_IMAGE_PIXELS = max(1, int(_MOST[:18]) // 2)
# formats that are not raster images, or that Pillow passes to other programs
_COMMON = ("JPEG", "PNG", "WEBP")
_LEFT_OUT = {"EPS", "PDF", "WMF", "MPEG", "GRIB", "HDF5", "BUFR", "FITS"}


def reason_of(error: BaseException) -> str:
    """Return in a few words why an image can't be read."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"  # Pillow's message names an object in memory
    if isinstance(error, Image.DecompressionBombError):  # Pillow's message speaks of an attack
        wrong = f" ('{_MOST}' is no whole number)" if _MOST and not _MOST.isdecimal() else ""
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it has more than {most:,} pixels: make it smaller, or raise MTLBENCH_MAX_PIXELS{wrong}"
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return words.strip().rstrip(".") or type(error).__name__


def pack_chunk(
    partial: Path,
    start: int,
    paths: list[str],
    size: tuple[int, int],
    fit: str,
    each: Callable[[Callable[[int], None], Iterable[int]], Iterable[None]] = map,
) -> tuple[dict[int, str], int]:
    """Decode consecutive images and write their pixels and file records to their places in the pack.

    Args:
        partial: the folder that holds the files `images` and `files` to write to.
        start: row of the first image.
        paths: of the images; size, fit: as for `open_pack`.
        each: calls a function for every image; a pool's `map` runs the calls in parallel.

    Returns:
        the reasons of the unreadable images, by row, and the checksum of the written data.

    Raises:
        OSError: the files can't be written.
    """
    pixels = np.zeros((len(paths), *size, 3), np.uint8)
    files = np.full(len(paths), np.array((-1, -1, -1, [0] * 32), FILE))
    reasons = {}

    def work(i: int) -> None:
        try:
            pixels[i] = read_image(Path(paths[i]), size, fit, files[i])
        except BROKEN as error:
            reasons[start + i] = reason_of(error)

    for _ in each(work, range(len(paths))):
        pass
    for name, data in (("images", pixels), ("files", files)):
        with (partial / name).open("r+b", buffering=0) as file:
            write_rows(file, start * (data.nbytes // len(paths)), data)
    return reasons, checksum(pixels, files)


def write_rows(file: io.FileIO, offset: int, data: npt.NDArray[np.generic]) -> None:
    """Write a whole array at an offset."""
    file.seek(offset)
    rest = data.view(np.uint8).reshape(-1).data
    while rest:
        rest = rest[file.write(rest) :]


def checksum(pixels: Pixels, files: Files) -> int:
    """Return a checksum that tells whether a chunk was written completely."""
    return zlib.crc32(files.tobytes(), zlib.crc32(pixels.reshape(-1).data))


def serve() -> None:
    """Pack chunks until standard input ends, as it does when the parent process ends for any reason.

    Each line of input asks for one chunk: it holds the arguments of `pack_chunk` as JSON. Each line of output is an
    answer: the chunk's start and the result, or the number and text of an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all processes; the parent decides
    for line in sys.stdin.buffer:
        partial, start, paths, size, fit = json.loads(line)
        try:
            answer: object = pack_chunk(Path(partial), start, paths, tuple(size), fit)
        except OSError as error:
            answer = {"errno": error.errno, "strerror": error.strerror or str(error)}
        try:
            sys.stdout.buffer.write(json.dumps([start, answer]).encode() + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the parent was killed
            os._exit(1)


class _MemoryLimit:
    """Limits the memory for large images: `with limit(need)` waits until enough is free.

    An image that needs more than the limit waits until it is alone. The C library keeps the memory that a thread frees
    for that thread, gigabytes on many cores, so `_trim` makes it return the memory.
    """

    def __init__(self, most: int) -> None:
        self._most, self._used, self._changed = most, 0, threading.Condition()

    @contextmanager
    def __call__(self, need: int) -> Iterator[None]:
        need = min(need, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._used + need <= self._most)
            self._used += need
        try:
            yield
        finally:
            with self._changed:
                _trim()
                self._used -= need
                self._changed.notify_all()


try:
    _trim: Callable[[], object] = functools.partial(ctypes.CDLL(None).malloc_trim, 0)
except (AttributeError, OSError, TypeError):

    def _trim() -> None:
        """Do nothing: only GNU's C library has such a call."""


_MEMORY = _MemoryLimit(2**28)  # total bytes for large images at a time
_SMALL = 2**22  # images that need fewer bytes do not wait
LARGE_FILE = 2**20  # bytes
_LARGE_IMAGE = 2**18  # pixels


def read_image(path: Path, size: tuple[int, int], fit: str, file: np.void) -> Pixels:
    """Return an image's pixels, and fill in as much of its file's record as can be read.

    Raises:
        one of `BROKEN`: the image is missing or broken.
    """
    about = regular(path)  # taken before reading, so that a later change of the file is noticed
    file["size"], file["mtime"], file["ctime"] = stamps_of(about)
    with path.open("rb") as source, ExitStack() as stack:
        stream: IO[bytes] = source
        if about.st_size > LARGE_FILE:  # read twice instead of held in memory by every thread
            digest = hashlib.file_digest(source, "sha256")
            source.seek(0)
        else:
            data = source.read()
            digest, stream = hashlib.sha256(data), io.BytesIO(data)
        check_whole(stream)
        file["digest"] = np.frombuffer(digest.digest(), np.uint8)
        image: Image.Image = stack.enter_context(Image.open(stream, formats=_formats()))
        # asked only if it is in the header: to find it behind the pixels, Pillow would decode a whole PNG
        turn = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
        wanted = size[::-1] if turn in (5, 6, 7, 8) else size
        full, corner = _placed((image.height, image.width), wanted, fit)
        height, width = float(image.height), float(image.width)
        memory = 6 * height * width if image.info.get("progressive") else 0.0  # coefficients, at any scale
        fourfold = image.height >= 4 * full[0] and image.width >= 4 * full[1]
        if image.format in ("JPEG", "MPO") and fourfold and height * width > _LARGE_IMAGE:
            drafted = image.draft(image.mode, (2 * full[1], 2 * full[0]))
            if drafted:
                width, height = drafted[1][2:]  # may be fractions, if the last column and row are partial
        memory += height * width * (4 if _plain(image) else 12)
        if memory > _SMALL:
            stack.enter_context(_MEMORY(int(memory)))
        image = _resized(_eight_bits(image), (width, height), full, corner, wanted)
    pixels = np.asarray(image if image.mode in ("RGB", "RGBa") else image.convert("RGB"))
    if image.mode == "RGBa":
        pixels = pixels[..., :3] + (255 - pixels[..., 3:])
    return np.ascontiguousarray(_TURNS[turn](pixels)) if turn in _TURNS else pixels


def stamps_of(about: os.stat_result) -> tuple[int, int, int]:
    """Return a file's `STAMPS`."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def regular(path: Path) -> os.stat_result:
    """Return the system's information on a file; reading a pipe would block, and a device has no end.

    Raises:
        OSError: the path is not a regular file.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found


@functools.cache
def _formats() -> list[str]:
    Image.init()
    # Pillow tries formats in order, and opens the file for those that can't tell by its first bytes
    return sorted((name for name in Image.ID if name not in _LEFT_OUT), key=lambda name: name not in _COMMON)


def check_whole(image: IO[bytes]) -> None:
    """Refuse a JPEG that has no end marker after its pixels; Pillow would show the missing part as grey.

    An end marker before the pixels belongs to a thumbnail. The check holds 64 KiB of the file at a time.

    Raises:
        OSError: the file is a download that stopped; the missing part may be zeros.
    """
    if image.read(2) == b"\xff\xd8":
        end, after = image.seek(0, io.SEEK_END), b""
        last = b""  # the end marker or the start of the pixels, whichever comes later in the file
        while end > 0 and not last:  # backwards, since the marker is near the end
            first = max(0, end - 65536)
            image.seek(first)
            block = image.read(end - first) + after
            if block.endswith(b"\xff\xd9"):  # true for most files: no marker can come later
                last = b"\xff\xd9"
                break
            found = max(block.rfind(b"\xff\xd9"), block.rfind(b"\xff\xda"))
            last, after, end = block[found : found + 2] if found >= 0 else b"", block[:1], first
        if last != b"\xff\xd9":
            raise OSError("image file is truncated")
    image.seek(0)


def fitted(pixels: Pixels, size: tuple[int, int], fit: str) -> Pixels:
    """Return an image (H, W, 3) at a benchmark's size, as `read_image` would return it from a lossless file."""
    image = Image.fromarray(pixels)
    full, corner = _placed((image.height, image.width), size, fit)
    return np.asarray(_resized(image, image.size, full, corner, size))


def size_of(file: Path) -> tuple[int, int]:
    """Return an image's (width, height) in pixels, turned by its EXIF orientation as packing turns it.

    Raises:
        one of `BROKEN`: the image is missing or broken.
    """
    regular(file)
    with Image.open(file, formats=_formats()) as image:
        # asked only if it is in the header, as in packing
        turn = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
        width, height = image.size
        return (height, width) if turn in (5, 6, 7, 8) else (width, height)


def most_of_deep(file: Path) -> int | None:
    """Return the highest value, 0 to 255, that packing reads from an image of 16 bits per channel; None for others.

    Images that use 12 of the 16 bits reach 15 at most; those that use 8 bits give 0, which is black. The header states
    the number of bits.

    Raises:
        one of `BROKEN`: the image is missing or broken.
    """
    regular(file)
    with Image.open(file, formats=_formats()) as image:
        if image.mode.startswith("I"):
            return int(np.asarray(_from_sixteen_bits(image)).max())
        if ";16" not in str(getattr(image, "tile", "")):  # Pillow reduces these to 8 bits while it decodes
            return None
        values = np.asarray(image)
        opaque = 1 if image.mode == "LA" else 3
        return int((values[..., :opaque] if values.ndim > 2 else values).max())


# how to turn the stored pixels for each EXIF orientation
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def _placed(shape: tuple[int, int], wanted: tuple[int, int], fit: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (height, width) to resize the whole image to, and the (top, left) of the part to keep."""
    (height, width), (h, w) = shape, wanted
    full = wanted
    if fit == "crop":
        full = (h, width * h // height) if width * h >= height * w else (height * w // width, w)
    return full, (round((full[0] - h) / 2), round((full[1] - w) / 2))


def _resized(
    image: Image.Image,
    extent: tuple[float, float],
    full: tuple[int, int],
    corner: tuple[int, int],
    wanted: tuple[int, int],
) -> Image.Image:
    """Return the part of an image to keep, resized, with the numbers of `_placed`.

    Args:
        image: the whole image; extent: its (width, height), fractional if its last column and row are partial.
        full: (height, width) of the whole image at the wanted scale; corner: (top, left) of the part in it.
        wanted: (height, width) of the part.
    """
    across, down = extent[0] / full[1], extent[1] / full[0]
    (top, left), (height, width) = corner, wanted
    right, bottom = (left + width) * across, (top + height) * down
    box = (left * across, top * down, min(right, image.width), min(bottom, image.height))  # a product may round up
    return image.resize(wanted[::-1], Image.Resampling.BILINEAR, box=box)


def _plain(image: Image.Image) -> bool:
    return image.mode in ("L", "RGB") and not image.has_transparency_data


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image in mode L, RGB, or RGBa (colours times opacity) if it is transparent; 8 bits a channel."""
    if _plain(image):
        return image
    if image.mode.startswith("I"):  # before transparency, which may be a grey value of 16 bits
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        return (image if image.mode == "RGBA" else image.convert("RGBA")).convert("RGBa")
    if image.mode == "F":
        raise ValueError("its pixels are real numbers with unknown black and white levels")
    return image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Reduce grey of 16 bits to 8 bits; Pillow itself would clip it at 255.

    Images of 32 bits per pixel are treated as the 8 or 16 bits that they hold. A grey value that marks transparency
    becomes white.
    """
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise ValueError("its pixels are below 0 or above 65,535, and their black and white are not known")
    eight = values if image.mode == "I" and high <= 0xFF and image.format == "TIFF" else values >> 8
    grey = eight.astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, np.uint8(255), grey)
    return Image.fromarray(grey)


if __name__ == "__main__":
    serve()
