"""Pictures of every usual kind, and of every bad kind."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypervl_engine import load_image
from hypervl_engine.images import load_images
from PIL import Image, PngImagePlugin

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)


def png(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def test_every_kind_of_source(tmp_path):
    image = Image.fromarray(RGB)
    path = tmp_path / "a.png"
    image.save(path)
    data = path.read_bytes()
    for source in (str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), image, RGB):
        loaded = load_image(source)
        assert loaded.dtype == np.uint8
        assert loaded.flags.c_contiguous
        np.testing.assert_array_equal(loaded, RGB)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), RGB)


def test_lists():
    assert load_images(None) == []
    assert len(load_images(RGB)) == 1
    assert [i.shape for i in load_images([RGB, RGB[:2]])] == [(9, 13, 3), (2, 13, 3)]
    assert len(load_images((RGB, png(Image.fromarray(RGB))))) == 2


def test_torch_tensors():
    import torch
    chw = torch.from_numpy(RGB).permute(2, 0, 1)
    np.testing.assert_array_equal(load_image(chw), RGB)
    np.testing.assert_array_equal(load_image(chw.float() / 255), RGB)
    np.testing.assert_array_equal(load_image((chw.double() / 255).requires_grad_()), RGB)
    assert np.abs(load_image((chw.float() / 255).bfloat16()).astype(int) - RGB).max() <= 1
    np.testing.assert_array_equal(load_image(torch.from_numpy(RGB)), RGB)  # (9, 13, 3): channels can only be last
    np.testing.assert_array_equal(load_image(chw[0])[:, :, 1], RGB[:, :, 0])
    with pytest.raises(ValueError, match="0 to 1"):
        load_image(chw.float())


def test_axis_of_channels():
    np.testing.assert_array_equal(load_image(np.moveaxis(RGB, 2, 0)), RGB)  # (3, 9, 13): channels can only be first
    square = RNG.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(square), square)  # both would do: arrays are channels-last
    with pytest.raises(ValueError, match="no axis of channels"):
        load_image(np.zeros((9, 13, 5), np.uint8))
    with pytest.raises(ValueError, match="several pictures as a list"):
        load_image(np.zeros((1, 9, 13, 3), np.uint8))
    with pytest.raises(ValueError, match="not one picture"):
        load_image(np.zeros(7, np.uint8))


def test_number_types():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey = load_image(values)
    expected = np.rint(values / 65535 * 255)
    np.testing.assert_array_equal(grey[:, :, 0], expected)
    assert (grey[:, :, 0] == grey[:, :, 2]).all()
    np.testing.assert_array_equal(load_image(RGB / 255.0), RGB)
    np.testing.assert_array_equal(load_image((RGB / 255.0).astype(np.float32)), RGB)
    np.testing.assert_array_equal(load_image(RGB[:, :, 0] > 99)[:, :, 0], (RGB[:, :, 0] > 99) * 255)
    np.testing.assert_array_equal(load_image(RGB[:, :, :1])[:, :, 2], RGB[:, :, 0])
    np.testing.assert_array_equal(load_image(RGB[::-1, ::2]), RGB[::-1, ::2])  # strided views


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01, 255.0])
def test_floats_out_of_range(bad):
    values = np.full((4, 4, 3), 0.5, np.float32)
    values[1, 2, 0] = bad
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        load_image(values)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32, np.complex64, object])
def test_types_without_a_range(dtype):
    with pytest.raises(ValueError, match="uint8"):
        load_image(np.zeros((4, 4, 3), dtype))


def over_white(rgb, alpha):
    alpha = alpha[:, :, None].astype(np.float64) / 255
    return rgb * alpha + 255 * (1 - alpha)


def test_alpha_lies_over_white():
    alpha = RNG.integers(0, 256, (9, 13), dtype=np.uint8)
    alpha[0] = 0
    alpha[1] = 255
    rgba = np.dstack([RGB, alpha])
    expected = over_white(RGB, alpha)
    for source in (rgba, png(Image.fromarray(rgba)), Image.fromarray(rgba)):
        loaded = load_image(source)
        assert np.abs(loaded - expected).max() <= 1
        assert (loaded[0] == 255).all()
        np.testing.assert_array_equal(loaded[1], RGB[1])
    la = np.dstack([RGB[:, :, 0], alpha])
    expected = over_white(np.repeat(RGB[:, :, :1], 3, 2), alpha)
    assert np.abs(load_image(la) - expected).max() <= 1
    assert np.abs(load_image(png(Image.fromarray(la))) - expected).max() <= 1


def test_palettes():
    indices = RNG.integers(0, 4, (9, 13), dtype=np.uint8)
    palette = Image.fromarray(indices).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 7, 8, 9])
    np.testing.assert_array_equal(np.asarray(palette), indices)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 8, 9]], np.uint8)
    plain = load_image(png(palette))
    np.testing.assert_array_equal(plain, colours[indices])
    clear = load_image(png(palette, transparency=2))
    colours[2] = 255
    np.testing.assert_array_equal(clear, colours[indices])


def test_other_modes():
    for mode in ("1", "L", "CMYK", "YCbCr", "HSV", "RGBX", "PA", "La", "RGBa", "LAB"):
        start = Image.fromarray(RGB)
        if mode in ("PA", "La", "RGBa"):
            start = start.convert({"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}[mode])
        image = start.convert(mode) if mode != "PA" else start.convert("P").convert("PA")
        assert load_image(image).shape == (9, 13, 3), mode


def test_grey_16_bit_and_1_bit_files():
    values = RNG.integers(0, 65536, (9, 13), dtype=np.uint16)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    np.testing.assert_array_equal(load_image(out.getvalue())[:, :, 0], np.rint(values / 65535 * 255))
    wide = Image.fromarray(values.astype(np.int32))
    np.testing.assert_array_equal(load_image(wide)[:, :, 1], np.rint(values / 65535 * 255))
    with pytest.raises(ValueError, match="0 to 65535"):
        load_image(Image.fromarray(values.astype(np.int32) * 100))
    bits = Image.fromarray(RGB[:, :, 0] > 128)
    assert bits.mode == "1"
    np.testing.assert_array_equal(load_image(png(bits))[:, :, 0], (RGB[:, :, 0] > 128) * 255)
    floats = Image.fromarray((RGB[:, :, 0] / 255).astype(np.float32))
    np.testing.assert_array_equal(load_image(floats)[:, :, 0], RGB[:, :, 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(RGB)
    # What each orientation says was done to the upright picture, as numpy operations that undo it.
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation]  # fmt: skip
    loaded = load_image(png(Image.fromarray(upright), exif=exif))
    np.testing.assert_array_equal(loaded, undo(upright))


def test_animation_gives_its_first_frame():
    frames = [Image.fromarray(np.full((9, 13, 3), v, np.uint8)) for v in (10, 200)]
    for kind in ("PNG", "WEBP", "GIF"):
        out = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        frames[0].save(out, kind, save_all=True, append_images=frames[1:], **options)
        assert np.abs(load_image(out.getvalue()).astype(int) - 10).max() <= 1, kind


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (3, 1), (2, 2)])
def test_small_and_thin(shape):
    values = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(values), values)
    np.testing.assert_array_equal(load_image(png(Image.fromarray(values))), values)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0), (0, 7)])
def test_zero_size(shape):
    with pytest.raises(ValueError, match=r"expected at least 1x1"):
        load_image(np.zeros(shape, np.uint8))


def test_zero_size_pil():
    with pytest.raises(ValueError, match="expected at least 1x1"):
        load_image(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize(
    "source", [b"", b"\0" * 64, b"not an image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"]
)
def test_not_an_image(source, tmp_path):
    for given in (source, tmp_path / "x.png"):
        if given is not source:
            given.write_bytes(source)
        with pytest.raises(ValueError, match=r"image file|empty|0 bytes"):
            load_image(given)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_short(kind):
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(out, kind)
    data = out.getvalue()
    for size in (len(data) // 3, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(ValueError, match=r"damaged|not an image"):
            load_image(data[:size])


def test_flipped_bytes_never_escape():
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        out = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(out, kind)
        good = out.getvalue()
        for _ in range(60):
            data = bytearray(good)
            for place in RNG.integers(0, len(data), 4):
                data[place] = RNG.integers(0, 256)
            with contextlib.suppress(ValueError):
                load_image(bytes(data))


def test_pixel_cap():
    with pytest.raises(ValueError, match=r"13x9 = 117 pixels, over the cap of 116"):
        load_image(RGB, max_pixels=116)
    assert load_image(RGB, max_pixels=117).shape == RGB.shape
    with pytest.raises(ValueError, match="over the cap"):
        load_image(png(Image.fromarray(RGB)), max_pixels=100)
    with pytest.raises(ValueError, match="max_pixels"):
        load_image(RGB, max_pixels=0)


def test_decompression_bombs():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (9000, 60000):  # 81 Mpx is over our cap, 3.6 Gpx also over Pillow's; neither is ever decoded
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 1000)), chunk(b"IEND", b"")
        data = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
        with pytest.raises(ValueError, match="over the cap"):
            load_image(data)
    text = PngImagePlugin.PngInfo()
    text.add_text("x", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1000), zip=True)
    with pytest.raises(ValueError, match="image"):
        load_image(png(Image.fromarray(RGB), pnginfo=text))


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image file"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="folder"):
        load_image(tmp_path)
    with pytest.raises(ValueError, match="fetch it first"):
        load_image("https://example.org/a.png")
    with pytest.raises(ValueError, match="file name"):
        load_image("a\0b")


@pytest.mark.parametrize("source", [3, 2.5, object(), {"a": 1}, ["x"]])
def test_not_a_source(source):
    with pytest.raises(ValueError, match="cannot read an image"):
        load_image(source)


def test_caller_s_image_is_left_alone():
    image = Image.fromarray(np.dstack([RGB, RGB[:, :, 0]]))
    before = image.tobytes()
    load_image(image)
    assert image.mode == "RGBA"
    assert image.tobytes() == before
