"""`kdxai.data.pictures`: any file that people have, as RGB of the size asked for."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from kdxai.data import pictures
from kdxai.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = RGB[..., 0]


def save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["bmp", "png", "webp"])
def test_a_picture_of_that_size_is_not_changed(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"x.{suffix}", RGB, **options)
    found = pictures.read(path, (6, 8))
    np.testing.assert_array_equal(found, RGB)
    assert found.dtype == np.uint8 and found.flags.writeable


def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path):
    path = save(tmp_path / "x.JPG", np.kron(RGB, np.ones((8, 8, 1), np.uint8)), quality=95)
    np.testing.assert_array_equal(pictures.read(path, (48, 64)), np.asarray(Image.open(path)))


def test_grey_bits_and_palettes(tmp_path):
    grey = save(tmp_path / "grey.png", GREY)
    np.testing.assert_array_equal(pictures.read(grey, (6, 8)), np.dstack([GREY] * 3))
    bits = tmp_path / "bits.png"
    Image.fromarray(GREY > 127).save(bits)
    np.testing.assert_array_equal(pictures.read(bits, (6, 8)), np.dstack([255 * (GREY > 127)] * 3))
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    palette = Image.fromarray(GREY)
    palette.putpalette(colours.tobytes())
    palette.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    np.testing.assert_array_equal(pictures.read(tmp_path / "palette.png", (6, 8)), colours[GREY])


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path):
    path = save(tmp_path / "x.png", GREY.astype(np.uint16) << 8 | 200)
    assert Image.open(path).mode == "I;16"
    np.testing.assert_array_equal(pictures.read(path, (6, 8)), np.dstack([GREY] * 3))
    # In colour, by hand: Pillow writes none.
    deep = (RGB.astype(">u2") << 8 | 200).astype(">u2").reshape(6, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in deep)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "deep.png").write_bytes(content)
    np.testing.assert_array_equal(pictures.read(tmp_path / "deep.png", (6, 8)), RGB)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "key", "webp"])
def test_what_is_transparent_is_laid_on_white(tmp_path, kind):
    colour = {"RGBA": (200, 0, 100), "webp": (200, 0, 100)}.get(kind, (100, 100, 100))
    alpha = np.zeros((4, 4), np.uint8)
    alpha[0], alpha[1] = 255, 0 if kind in ("palette", "key") else 51  # a fifth
    expected = np.full((4, 4, 3), 255.0)
    expected[0] = colour
    if alpha[1, 0]:
        expected[1] = 255 + (np.array(colour) - 255) / 5
    path = tmp_path / ("x.webp" if kind == "webp" else "x.png")
    if kind == "LA":
        save(path, np.dstack([np.full((4, 4), colour[0], np.uint8), alpha]))
    elif kind == "palette":
        picture = Image.fromarray((alpha == 0).astype(np.uint8), "P")
        picture.putpalette([*colour, 1, 2, 3])
        picture.save(path, transparency=1)
    elif kind == "key":  # a grey level that stands for nothing
        save(path, np.where(alpha == 0, 7, colour[0]).astype(np.uint8), transparency=7)
    else:
        pixels = np.dstack([np.broadcast_to(np.uint8(colour), (4, 4, 3)), alpha])
        save(path, pixels, **({"lossless": True, "exact": True} if kind == "webp" else {}))
    np.testing.assert_allclose(pictures.read(path, 4), expected, atol=1)


def test_cmyk(tmp_path):
    """Of a print: cyan, magenta and yellow take their light away, black all of it."""
    inks = np.zeros((32, 64, 4), np.uint8)
    inks[:, :16, 0] = inks[:, 16:32, 1] = inks[:, 32:48, 2] = inks[:, 48:, 3] = 255
    path = tmp_path / "x.jpeg"
    Image.fromarray(inks, "CMYK").save(path, quality=100, subsampling=0)
    assert Image.open(path).mode == "CMYK"
    found = pictures.read(path, (32, 64))[16, [8, 24, 40, 56]]
    expected = [[0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=4)


# As the first row and the first column of the stored picture lie in what is seen (EXIF 2.3, 4.6.4).
SEEN = {
    1: [[1, 2, 3], [4, 5, 6]],  # top, left
    2: [[3, 2, 1], [6, 5, 4]],  # top, right
    3: [[6, 5, 4], [3, 2, 1]],  # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],  # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],  # left, top
    6: [[4, 1], [5, 2], [6, 3]],  # right, top
    7: [[6, 3], [5, 2], [4, 1]],  # right, bottom
    8: [[3, 6], [2, 5], [1, 4]],  # left, bottom
    9: [[1, 2, 3], [4, 5, 6]],  # there is none
}


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("orientation", sorted(SEEN))
def test_it_is_seen_as_it_was_taken(tmp_path, orientation, suffix):
    tall = 16 if suffix == "jpg" else 1  # blocks of a JPEG
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    stored = np.kron(40 * np.array(SEEN[1], np.uint8), np.ones((tall, tall), np.uint8))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"x.{suffix}", np.dstack([stored] * 3), exif=exif, **options)
    seen = np.array(SEEN[orientation])
    found = pictures.read(path, (tall * seen.shape[0], tall * seen.shape[1]))
    np.testing.assert_allclose(found[tall // 2 :: tall, tall // 2 :: tall, 1], 40 * seen, atol=2)


def test_an_exif_that_is_damaged_is_passed_over(tmp_path):
    path = save(tmp_path / "x.png", RGB, exif=b"Exif\0\0neither II nor MM")
    np.testing.assert_array_equal(pictures.read(path, (6, 8)), RGB)


def test_a_share_of_the_middle(tmp_path):
    """As torchvision has it: the shorter side to 256, then the middle 224."""
    y, x = np.mgrid[:300, :400]
    image = np.uint8(np.stack([127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), x / 2], -1))
    Image.fromarray(image).save(tmp_path / "a.png")
    found = pictures.read(tmp_path / "a.png", 224, crop=0.875)
    whole = Image.fromarray(image).resize((341, 256), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((58, 16, 282, 240)))
    assert np.abs(found.astype(int) - expected).mean() < 5  # half a pixel apart
    assert np.abs(pictures.read(tmp_path / "a.png", 224).astype(int) - expected).mean() > 20
    edge = image.copy()
    edge[:14], edge[-14:] = 0, 0  # of 18.75 that are cut away; the filter reads four more
    Image.fromarray(edge).save(tmp_path / "b.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "b.png", 224, crop=0.875), found)


@pytest.mark.parametrize("crop", [0, -0.5, 1.01, float("nan")])
def test_a_crop_that_is_no_share(tmp_path, crop):
    path = save(tmp_path / "x.png", RGB)
    with pytest.raises(UserError, match="crop is .*: it must be a share of a picture"):
        pictures.read(path, 8, crop=crop)


def test_the_middle_is_kept(tmp_path):
    bars = np.repeat(np.array([0, 0, 90, 91, 92, 93, 0, 0], np.uint8), 4)
    wide = np.broadcast_to(bars[None, :, None], (16, 32, 3))
    for array in (wide, wide.swapaxes(0, 1)):
        path = save(tmp_path / "x.png", np.ascontiguousarray(array))
        found = pictures.read(path, 16)
        assert found.shape == (16, 16, 3)
        middle = array[:, 8:24] if array is wide else array[8:24]
        np.testing.assert_array_equal(found, middle)


@pytest.mark.parametrize("size", [8, (8, 12), (20, 4), 100, 1])
@pytest.mark.parametrize("shape", [(31, 50), (50, 31), (1, 70), (16, 16)])
def test_any_size_of_any_size(tmp_path, shape, size):
    """A slope stays one: within a grey level of the line through the middle."""
    height, width = (size, size) if isinstance(size, int) else size
    rows = np.linspace(0, 255, shape[0])[:, None]
    slope = np.broadcast_to(rows, shape).round().astype(np.uint8)
    found = pictures.read(save(tmp_path / "x.png", slope), size)
    assert found.shape == (height, width, 3) and (np.diff(found.astype(int), axis=0) >= 0).all()
    kept = min(shape[0], shape[1] * height / width)  # rows of the picture
    centres = (shape[0] - kept) / 2 + (np.arange(height) + 0.5) * kept / height - 0.5
    line = np.interp(centres, np.arange(shape[0]), rows[:, 0])
    inner = slice(height // 4, height - height // 4)  # at the border there is less to average
    np.testing.assert_allclose(found[inner, width // 2, 0], line[inner], atol=2)


def test_shrinking_averages(tmp_path):
    """No aliasing: a fine checkerboard is grey from afar."""
    board = 255 * (np.indices((64, 64)).sum(0) % 2).astype(np.uint8)
    np.testing.assert_allclose(pictures.read(save(tmp_path / "x.png", board), 8), 127, atol=2)


def test_a_large_jpeg_is_as_if_decoded_whole(tmp_path):
    """Pillow decodes it at half its size; at a quarter the greatest difference would be 31."""
    small = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    large = Image.fromarray(small).resize((300, 300), Image.Resampling.BICUBIC)
    large.save(tmp_path / "x.jpg", quality=95, subsampling=0)
    Image.open(tmp_path / "x.jpg").save(tmp_path / "x.png")
    jpg, png = (pictures.read(tmp_path / f"x.{suffix}", 64) for suffix in ("jpg", "png"))
    np.testing.assert_allclose(jpg.astype(int), png, atol=8)


def refused(path) -> str:
    with pytest.raises(UserError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.read(path, 8)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500 and str(path) in message
    return message


@pytest.mark.parametrize("suffix", ["bmp", "jpg", "png", "webp"])
def test_a_file_that_is_cut_off(tmp_path, suffix):
    path = save(tmp_path / f"x.{suffix}", np.kron(RGB, np.ones((9, 9, 1), np.uint8)))
    whole = path.read_bytes()
    for size in (0, 3, 20, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:size])
        assert "replace it or take it away" in refused(path)


def test_a_damaged_png_is_found_by_its_checksum(tmp_path):
    path = save(tmp_path / "x.png", RGB)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    path.write_bytes(content)
    assert "cannot read the picture" in refused(path)


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_text("<html>not found</html>")
    assert "is no PNG, JPEG, WebP or BMP picture" in refused(path)
    save(path, RGB, format="TIFF")  # by its content
    assert "is no PNG, JPEG, WebP or BMP picture" in refused(path)
    (tmp_path / "folder.png").mkdir()
    assert "IsADirectoryError" in refused(tmp_path / "folder.png")
    assert "FileNotFoundError" in refused(tmp_path / "none.png")


def test_a_decompression_bomb(tmp_path, monkeypatch):
    """Where Pillow warns, and where it raises an error: both before anything is decoded."""
    path, pixels = save(tmp_path / "x.bmp", RGB), GREY.size
    for limit in (pixels // 3, pixels - 1):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "48 pixels" in refused(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    assert pictures.read(path, 8).shape == (8, 8, 3)
