"""Test-time views: the outputs of a model are averaged over several views of each image."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

Views = Literal["none", "flip", "ten_crop"]
# The part of each side in a crop of `ten_crop`: 224 of 256 pixels (Krizhevsky et al., 2012).
CROP = 7 / 8


def native_size(views: Views, size: int) -> int:
    """Height and width at which images are read, for a network that takes `size` pixels."""
    return round(size / CROP) if views == "ten_crop" else size


def windows(views: Views, size: int) -> Iterator[Callable[[Any], Any]]:
    """One function per view: images (n, s, s, 3), s = `native_size` → images (n, size, size, 3).

    `flip`: unchanged and mirrored. `ten_crop`: the four corners and the centre, both ways.
    """
    if views != "ten_crop":
        yield _window(0, 0, size, mirror=False)
        if views == "flip":
            yield _window(0, 0, size, mirror=True)
        return
    end = native_size(views, size) - size
    for top, left in ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2)):
        yield _window(top, left, size, mirror=False)
        yield _window(top, left, size, mirror=True)


def _window(top: int, left: int, size: int, *, mirror: bool) -> Callable[[Any], Any]:
    def window(images: Any) -> Any:
        shown = images[:, top : top + size, left : left + size]
        return shown[:, :, ::-1] if mirror else shown

    return window
