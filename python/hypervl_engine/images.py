"""Pictures of every usual kind to one form: (height, width, 3) uint8 RGB."""

from __future__ import annotations

import io
import os
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

DEFAULT_MAX_PIXELS = 64 * 1024 * 1024
# Formats that Pillow decodes by itself. Others would start helper programs (EPS) or are never photographs.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "AVIF", "QOI")
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")

Rgb: TypeAlias = NDArray[np.uint8]
ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[Any] | Any
)


def load_image(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Rgb:
    """Any picture as contiguous (height, width, 3) uint8 RGB.

    source: a path; the bytes of an image file; a binary file object; a PIL image; a numpy array (H, W) or (H, W, C) of
    bool, uint8, uint16 (0..65535) or float (0..1); a torch tensor (C, H, W) or (H, W) of uint8 or float (0..1). C is
    1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Arrays are channels-last and tensors channels-first; only when that
    axis cannot be one of channels and the other can, the other order is taken. Transparency is laid over white, the
    EXIF orientation is applied, of an animation the first frame is read.

    Raises FileNotFoundError for a path that is not there and ValueError for everything that is not such a picture or
    has more than `max_pixels` pixels.
    """
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}: expected at least 1")
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, channels_first=False)
    if isinstance(source, Image.Image):
        return _from_pil(source, max_pixels, what="the PIL image")
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if not data:
            raise ValueError("the image is 0 bytes long: expected the bytes of an image file")
        return _decode(io.BytesIO(data), max_pixels, what=f"the image ({len(data)} bytes)")
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source), max_pixels)
    if hasattr(source, "detach") and hasattr(source, "cpu") and hasattr(source, "shape"):
        return _from_array(_tensor_to_numpy(source), max_pixels, channels_first=True)
    if hasattr(source, "read"):
        return _decode(source, max_pixels, what=f"the image file {getattr(source, 'name', '')!r}")
    raise ValueError(
        f"cannot read an image from {type(source).__name__}: expected a path, bytes, a binary file, a PIL image, "
        "a numpy array or a torch tensor"
    )


def load_images(sources: Any, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> list[Rgb]:
    """None, one picture, or a list or tuple of pictures, as a list. `max_pixels` is the cap of each."""
    if sources is None:
        return []
    if isinstance(sources, list | tuple):
        return [load_image(one, max_pixels=max_pixels) for one in sources]
    return [load_image(sources, max_pixels=max_pixels)]


def _from_path(path: str, max_pixels: int) -> Rgb:
    if path.startswith(("http://", "https://", "data:")):
        raise ValueError(f"{path[:40]!r} is an address: the engine reads files only, fetch it first and pass the bytes")
    if os.path.isdir(path):
        raise ValueError(f"{path!r} is a folder: expected an image file")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; the two kinds of OSError must stay apart
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file at {path!r}") from None
    except ValueError as error:  # a NUL in the name
        raise ValueError(f"{path!r} is not a file name: {error}") from None
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError(f"{path!r} is empty: expected an image file")
        return _decode(file, max_pixels, what=repr(path))


def _decode(file: Any, max_pixels: int, what: str) -> Rgb:
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    # A decoder meeting a hostile file fails with nearly any exception; for the caller all of them mean "not a picture".
    try:
        image = Image.open(file, formats=formats)
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{what} is over the cap of {max_pixels} pixels: {error}") from None
    except Exception as error:
        raise ValueError(f"{what} is not an image file that can be read ({_reason(error)})") from error
    with image:
        return _from_pil(image, max_pixels, what)


def _from_pil(image: Image.Image, max_pixels: int, what: str) -> Rgb:
    _check_size(image.height, image.width, max_pixels, what)
    try:
        image.load()
        return _rgb(image, what)
    except (MemoryError, _BadPixelsError):
        raise
    except Exception as error:
        raise ValueError(f"{what} is damaged or cut short ({_reason(error)})") from error


class _BadPixelsError(ValueError):
    """A finding of ours, which must not be wrapped as a decoder's."""


def _rgb(image: Image.Image, what: str) -> Rgb:
    image = ImageOps.exif_transpose(image) or image
    if image.mode in _GREY_16:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise _BadPixelsError(
                f"{what} has 32-bit grey values from {grey.min()} to {grey.max()}: expected 0 to 65535"
            )
        return _three(_eight_bits(grey.astype(np.uint16)))
    if image.mode == "F":
        return _three(_unit_floats(np.asarray(image), what))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _over_white(image)
    return np.ascontiguousarray(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))


def _over_white(image: Image.Image) -> Rgb:
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.ascontiguousarray(np.asarray(Image.alpha_composite(white, rgba).convert("RGB")))


def _tensor_to_numpy(tensor: Any) -> NDArray[Any]:
    """A torch tensor (of any device, bfloat16 and half included) without importing torch."""
    try:
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
            tensor = tensor.float()
        return np.asarray(tensor.numpy())
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"the tensor cannot be read as an array: {error}") from error


def _from_array(array: NDArray[Any], max_pixels: int, *, channels_first: bool) -> Rgb:
    what = f"the {'tensor' if channels_first else 'array'} of shape {tuple(array.shape)} and type {array.dtype}"
    if array.ndim == 3:
        array = _channels_last(array, what, channels_first)
    elif array.ndim != 2:
        raise ValueError(
            f"{what} is not one picture: expected (height, width) or {'(C, H, W)' if channels_first else '(H, W, C)'}; "
            "pass several pictures as a list"
        )
    _check_size(array.shape[0], array.shape[1], max_pixels, what)
    if array.dtype == np.uint8:
        pixels: Rgb = np.asarray(array)
    elif array.dtype == np.bool_:
        pixels = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        pixels = _eight_bits(array)
    elif np.issubdtype(array.dtype, np.floating):
        pixels = _unit_floats(array, what)
    else:
        raise ValueError(f"{what} has no known range: expected bool, uint8, uint16 or float; convert 0..255 to uint8")
    if pixels.ndim == 2:
        return _three(pixels)
    channels = pixels.shape[2]
    if channels == 1:
        return _three(pixels[:, :, 0])
    if channels == 3:
        return np.ascontiguousarray(pixels)
    return _over_white(Image.fromarray(np.ascontiguousarray(pixels)))


def _channels_last(array: NDArray[Any], what: str, channels_first: bool) -> NDArray[Any]:
    first, last = array.shape[0] in (1, 2, 3, 4), array.shape[2] in (1, 2, 3, 4)
    if not first and not last:
        raise ValueError(f"{what} has no axis of channels: expected 1 (grey), 2, 3 (RGB) or 4 (RGBA) of them")
    move = first if channels_first else not last
    return np.moveaxis(array, 0, 2) if move else array


def _check_size(height: int, width: int, max_pixels: int, what: str) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"{what} is {width}x{height}: expected at least 1x1 pixels")
    if height * width > max_pixels:
        raise ValueError(
            f"{what} is {width}x{height} = {height * width} pixels, over the cap of {max_pixels}: "
            "shrink it or raise max_pixels"
        )


def _eight_bits(values: NDArray[np.uint16]) -> Rgb:
    """0..65535 to 0..255, rounded to nearest."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _unit_floats(values: NDArray[Any], what: str) -> Rgb:
    """0..1 to 0..255, rounded to nearest."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN fails both
        raise _BadPixelsError(
            f"{what} has values from {low:g} to {high:g}: expected floats from 0 to 1 without NaN; "
            "divide 0..255 by 255, or undo the normalisation"
        )
    wide: NDArray[Any] = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    rounded: Rgb = np.floor(np.multiply(wide, 255.0) + 0.5).astype(np.uint8)
    return rounded


def _three(grey: NDArray[np.uint8]) -> Rgb:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0].strip() or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
