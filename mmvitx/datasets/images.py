"""What the headers of image files say, without decoding the images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

THREADS = 16  # they wait for the storage; on a local disk one would do
ORIENTATION = 0x0112  # EXIF tag


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        width: Pixels of a stored row.
        height: Number of stored rows.
        orientation: EXIF orientation, 1..8; 1 if there is none.
        mode: Pillow's name for the pixel format: ``L``, ``RGB``, ``P``, ``I;16``, ...
    """

    width: int
    height: int
    orientation: int
    mode: str

    @property
    def turned(self) -> bool:
        """Whether viewers, and OpenCV by default, turn the image by 90 or 270 degrees."""
        return self.orientation >= 5

    def size(self, oriented: bool) -> tuple[int, int]:
        """Width and height as loaded, turned by the EXIF orientation or not."""
        turned = oriented and self.turned
        return (self.height, self.width) if turned else (self.width, self.height)


def is_local(path: Any, settings: dict) -> bool:
    """Whether a path of some settings is one of this machine."""
    return isinstance(path, str) and '://' not in path and not settings.get('backend_args')


def read_headers(paths: Iterable[str]) -> dict[str, Header | None]:
    """Read the headers of image files; None for those that are missing or no images."""
    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(paths, pool.map(_read, paths)))


def find_unreadable(headers: Mapping[str, Header | None]) -> tuple[list[str], list[str]]:
    """Find the files without a header: those that are missing, and those of no known format."""
    unreadable = [path for path, header in headers.items() if not header]
    missing = [path for path in unreadable if not os.path.isfile(path)]
    return missing, [path for path in unreadable if os.path.isfile(path)]


def _read(path: str) -> Header | None:
    try:
        with Image.open(path) as image:
            # Pillow would decode a whole PNG to look for EXIF data at its end
            exif = image.getexif() if 'exif' in image.info else {}
            orientation = exif.get(ORIENTATION, 1)
            return Header(*image.size, orientation if orientation in range(1, 9) else 1, image.mode)
    except Exception:  # Pillow's decoders raise what they like: OSError, SyntaxError, struct.error
        return None
