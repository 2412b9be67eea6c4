"""Images: every usual kind becomes the same RGB pixels, hostile ones an error."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from evm_deploy.decoding import FORMATS
from evm_deploy.errors import ImageError
from evm_deploy.images import load_image

Pixels = npt.NDArray[np.uint8]


def pixels(h: int, w: int) -> Pixels:
    return np.random.default_rng(h * 1000 + w).integers(0, 256, (h, w, 3), dtype=np.uint8)


def png(width: int, height: int, data: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    """A PNG written by hand, whose header may say anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pillow_knows_every_kind_we_name() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".webp"])
def test_lossless_kinds_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    path, image = tmp_path / f"image{suffix}", pixels(5, 7)
    Image.fromarray(image).save(path, lossless=True)
    loaded = load_image(path)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, image)


def test_jpeg(tmp_path: Path) -> None:
    image = np.full((16, 24, 3), (200, 30, 90), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=95)
    assert np.abs(load_image(tmp_path / "image.jpg").astype(int) - image).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.array([[0, 255], [255, 0], [0, 0]], np.uint8)
    path = tmp_path / ("image.tiff" if mode in ("CMYK", "PA") else "image.png")
    converted = Image.fromarray(grey).convert("L").convert(mode)
    try:
        converted.save(path)
    except OSError:
        pytest.skip(f"this Pillow writes no {mode}")
    np.testing.assert_array_equal(load_image(path), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("color", [0, 2])
def test_sixteen_bits_keep_their_high_byte(tmp_path: Path, color: int) -> None:
    high = np.array([[0, 1, 127], [128, 254, 255]], np.uint16)
    values = high * 256 + 77
    samples = values[:, :, None].repeat(3 if color else 1, axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    (tmp_path / "image.png").write_bytes(png(3, 2, rows, depth=16, color=color))
    np.testing.assert_array_equal(load_image(tmp_path / "image.png"), high[:, :, None].repeat(3, axis=2))


def test_pixels_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, 300.0]], np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.array([[-1, 1 << 20]], np.int32)).save(tmp_path / "int.tiff")
    for name in ("float.tiff", "int.tiff"):
        with pytest.raises(ImageError, match="an unknown range"):
            load_image(tmp_path / name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    image = pixels(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "image.png", exif=exif)
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(image),
    }
    np.testing.assert_array_equal(load_image(tmp_path / "image.png"), turned[orientation])


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (255, 0)]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "image.gif").min() == 255


def test_a_60000_by_60000_png(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000))
    with pytest.raises(ImageError, match="more than 64 megapixels"):
        load_image(path)


@pytest.mark.parametrize("size", [(8001, 8000), (12_000, 9_000), (64_000_001, 1)])
def test_a_little_over_the_limit(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "large.png").write_bytes(png(*size))
    with pytest.raises(ImageError, match="more than 64 megapixels"):
        load_image(tmp_path / "large.png")


def test_a_text_file_named_png(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image\n")
    with pytest.raises(ImageError, match="is not an image"):
        load_image(tmp_path / "text.png")


def test_kinds_whose_decoder_runs_another_program_are_not_images(tmp_path: Path) -> None:
    (tmp_path / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(ImageError, match="is not an image"):
        load_image(tmp_path / "drawing.png")


@pytest.mark.parametrize("name", ["none.png", "."])
def test_no_file_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"is not a file|No such file"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp", "tiff", "bmp", "gif"])
def test_truncated_or_flipped_bytes_never_escape(tmp_path: Path, suffix: str) -> None:
    buffer, path = io.BytesIO(), tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(20, 30)).save(buffer, suffix, **({"exif": exif} if suffix in ("png", "jpeg") else {}))
    whole = buffer.getvalue()
    refused = 0
    for step in range(120):
        damaged = bytearray(whole)
        if step % 2:
            damaged = damaged[: len(whole) * step // 120]
        else:
            damaged[step * 3 % min(len(whole), 200)] ^= 1 << step % 8
        path.write_bytes(damaged)
        try:
            assert load_image(path).shape[2] == 3
        except ImageError:
            refused += 1
    assert refused > 20


def test_no_warning_reaches_the_user(tmp_path: Path) -> None:
    Image.new("P", (9_500, 6_700)).save(tmp_path / "large.png")  # 63.7 megapixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "large.png").shape == (6_700, 9_500, 3)
