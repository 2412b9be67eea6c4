"""Images of every kind that people have, small and made here, with what every loader has to make of each."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # PNG's types of colour
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
HEIGHT, WIDTH = 13, 21
TOO_WIDE = 60_000  # squared, beyond the limit of 64 megapixels


@dataclass(frozen=True)
class ImageKind:
    """An image file. `pixels`, uint8 (H, W, 3), are what each loader gives that reads `format`; None: all refuse it.

    lossy: decoders may round otherwise than Pillow. refused_by: loaders that refuse it, and say so, for want of a
    decoder with a known result.
    """

    name: str
    format: str
    data: bytes
    pixels: Array | None
    lossy: bool = False
    refused_by: tuple[str, ...] = ()


def make_image_kinds() -> tuple[ImageKind, ...]:
    """The table."""
    return (*_make_pngs(), *_make_turned(), *_make_jpegs(), *_make_others(), *_make_damaged(), *_make_strangers())


def turn(image: Array, orientation: int) -> Array:
    """(H, W, 3) as EXIF's orientation shows it."""
    swapped = image.transpose(1, 0, 2)
    turned = (
        image, image[:, ::-1], image[::-1, ::-1], image[::-1],
        swapped, np.rot90(image, -1), swapped[::-1, ::-1], np.rot90(image),
    )  # fmt: skip
    return turned[orientation - 1]


def write_exif(orientation: int, order: str = "<") -> bytes:
    """EXIF with a camera's name and the orientation, as TIFF in this order of bytes."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entries = struct.pack(order + "HHI4s", 0x010F, 2, 4, b"cam\0")
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(order + "H", 2) + entries + bytes(4)


def write_profile() -> bytes:
    """A colour profile in which red and green have changed places: whoever heeds it shows it."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white, red, green, blue = (
        (0.9642, 1, 0.8249),
        (0.4361, 0.2225, 0.0139),
        (0.3851, 0.7169, 0.0971),
        (0.1431, 0.0606, 0.7141),
    )
    text = b"text\0\0\0\0none\0\0\0\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(8 + 3 + 67)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 0x0233, 0)
    xyz = {
        tag: b"XYZ \0\0\0\0" + b"".join(map(number, value))
        for tag, value in ((b"wtpt", white), (b"rXYZ", green), (b"gXYZ", red), (b"bXYZ", blue))
    }
    tags = {b"desc": desc + bytes(-len(desc) % 4), b"cprt": text, **xyz, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", at + len(body), len(value))
        body += value
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = (head + bytes(28)).ljust(68, b"\0") + b"".join(map(number, white))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def write_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def write_png(
    samples: Array, depth: int, kind: int, interlaced: bool = False, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG of `samples` (H, W, channels) of any depth and type; chunks before and after its data."""
    height, width = samples.shape[:2]
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    parts = (samples[y::dy, x::dx] for x, y, dx, dy in passes)
    lines = b"".join(b"\0" + _pack(row, depth) for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = write_chunk(b"IHDR", header) + before + write_chunk(b"IDAT", zlib.compress(lines)) + after
    return b"\x89PNG\r\n\x1a\n" + body + write_chunk(b"IEND", b"")


def _pack(row: Array, depth: int) -> bytes:
    if depth >= 8:
        return row.astype(f">u{depth // 8}").tobytes()
    return np.packbits(row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1) & 1).tobytes()


def _draw(channels: int, levels: int = 256, height: int = HEIGHT, width: int = WIDTH) -> Array:
    return np.random.default_rng(channels * levels).integers(0, levels, (height, width, channels))


def _make_rgb(samples: Array, depth: int) -> Array:
    """Grey or colour, with or without alpha, to RGB of 8 bits: alpha is dropped, and of 16 bits the low byte."""
    colours = samples[..., : 3 if samples.shape[2] > 2 else 1]
    eight = colours >> 8 if depth == 16 else colours * 255 // ((1 << depth) - 1)
    return eight.astype(np.uint8).repeat(3 // colours.shape[2], axis=2)


def _make_pngs() -> Iterator[ImageKind]:
    for name, depth, kind in (
        *((f"grey{depth}", depth, GREY) for depth in (1, 2, 4, 8, 16)),
        *((f"{name}{depth}", depth, kind) for depth in (8, 16)
          for name, kind in (("rgb", COLOUR), ("grey_alpha", GREY_ALPHA), ("rgba", COLOUR_ALPHA))),
    ):  # fmt: skip
        samples = _draw({GREY: 1, COLOUR: 3, GREY_ALPHA: 2, COLOUR_ALPHA: 4}[kind], 1 << depth)
        pixels = _make_rgb(samples, depth)
        yield ImageKind(f"{name}.png", "png", write_png(samples, depth, kind), pixels)
        yield ImageKind(f"{name}_interlaced.png", "png", write_png(samples, depth, kind, interlaced=True), pixels)
        if kind in (GREY, COLOUR):
            clear = write_chunk(b"tRNS", samples[3, 4].astype(">u2").tobytes())
            yield ImageKind(f"{name}_clear.png", "png", write_png(samples, depth, kind, before=clear), pixels)
    for depth in (1, 2, 4, 8):
        samples, colours = _draw(1, 1 << depth), _draw(3, height=1, width=1 << depth)[0].astype(np.uint8)
        chunks = write_chunk(b"PLTE", colours.tobytes())
        clear = chunks + write_chunk(b"tRNS", bytes([0, 90][: 1 << depth]))
        pixels = colours[samples[..., 0]]
        yield ImageKind(f"palette{depth}.png", "png", write_png(samples, depth, PALETTE, before=chunks), pixels)
        yield ImageKind(f"palette{depth}_clear.png", "png", write_png(samples, depth, PALETTE, True, clear), pixels)
    few = write_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    samples = _draw(1, 4)
    pixels = np.array([[10, 20, 30], [40, 50, 60], [0, 0, 0], [0, 0, 0]], np.uint8)[samples[..., 0]]
    yield ImageKind("palette_too_short.png", "png", write_png(samples, 8, PALETTE, before=few), pixels)
    for height, width in ((1, 1), (1, 7), (5, 1)):
        samples = _draw(3, height=height, width=width)
        yield ImageKind(f"{height}x{width}.png", "png", write_png(samples, 8, COLOUR, True), _make_rgb(samples, 8))
    samples = _draw(3)
    pixels = _make_rgb(samples, 8)
    profile = write_chunk(b"iCCP", b"test\0\0" + zlib.compress(write_profile()))
    gamma = write_chunk(b"gAMA", struct.pack(">I", 100000))
    yield ImageKind("profile.png", "png", write_png(samples, 8, COLOUR, before=profile), pixels)
    yield ImageKind("gamma.png", "png", write_png(samples, 8, COLOUR, before=gamma), pixels)
    yield ImageKind("png_named.jpg", "png", write_png(samples, 8, COLOUR), pixels)
    yield ImageKind(
        "animated.png", "png", _write(pixels, "PNG", save_all=True, append_images=[_picture(255 - pixels)]), pixels
    )


def _make_turned() -> Iterator[ImageKind]:
    samples = _draw(3)
    pixels = _make_rgb(samples, 8)
    smooth = _make_photo()
    for value in range(1, 9):
        for order, where in (("<", "before"), (">", "after")):
            chunk = write_chunk(b"eXIf", write_exif(value, order))
            data = write_png(samples, 8, COLOUR, **{where: chunk})
            yield ImageKind(f"turned{value}_{where}.png", "png", data, turn(pixels, value))
        data = _write(smooth, "JPEG", quality=90)
        marked = _add_segment(data, 0xE1, b"Exif\0\0" + write_exif(value, "<>"[value % 2]))
        yield ImageKind(f"turned{value}.jpg", "jpeg", marked, turn(_decode(data), value), lossy=True)
        data = _write(pixels, "WEBP", lossless=True, exif=write_exif(value))
        yield ImageKind(f"turned{value}.webp", "webp", data, turn(pixels, value))
    wrong = {
        "nine": write_exif(9), "zero": write_exif(0), "cut": write_exif(6)[:-8], "short": b"II*\0", "none": b"",
        "far": b"II*\0\xff\xff\xff\xff", "many": write_exif(6).replace(struct.pack("<H", 2), b"\xff\xff", 1)[:30],
        "long": write_exif(6).replace(struct.pack("<HHI", 0x0112, 3, 1), struct.pack("<HHI", 0x0112, 4, 1)),
        "other": b"XX" + write_exif(6)[2:],
    }  # fmt: skip
    data = _write(smooth, "JPEG")
    for name, exif in wrong.items():
        png = write_png(samples, 8, COLOUR, before=write_chunk(b"eXIf", exif))
        yield ImageKind(f"exif_{name}.png", "png", png, pixels)
        jpeg = _add_segment(data, 0xE1, b"Exif\0\0" + exif)
        yield ImageKind(f"exif_{name}.jpg", "jpeg", jpeg, _decode(data), lossy=True)
    png = write_png(samples, 8, COLOUR, before=write_chunk(b"eXIf", b"Exif\0\0" + write_exif(6)))
    yield ImageKind("exif_marked.png", "png", png, pixels)
    lines = b"\nexif\n%8d\n" % len(write_exif(6)) + (b"Exif\0\0" + write_exif(6)).hex().encode()
    text = write_chunk(b"tEXt", b"Raw profile type exif\0" + lines)
    yield ImageKind("exif_as_text.png", "png", write_png(samples, 8, COLOUR, before=text), pixels)
    webp = _write(pixels, "WEBP", lossless=True, exif=b"?" * 6 + write_exif(6)).replace(b"?" * 6, b"Exif\0\0")
    yield ImageKind("exif_marked.webp", "webp", webp, turn(pixels, 6))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    text = write_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    yield ImageKind("xmp.png", "png", write_png(samples, 8, COLOUR, before=text), pixels)
    jpeg = _add_segment(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    yield ImageKind("xmp.jpg", "jpeg", jpeg, _decode(data), lossy=True)
    both = _add_segment(_add_segment(data, 0xE1, b"Exif\0\0" + write_exif(3)), 0xE1, b"Exif\0\0" + write_exif(1))
    yield ImageKind("exif_twice.jpg", "jpeg", both, _decode(data), lossy=True)  # the first one counts


def _make_jpegs() -> Iterator[ImageKind]:
    photo = _make_photo()
    grey = photo[..., 0]
    for name, options in {
        "photo": {}, "444": {"subsampling": 0}, "422": {"subsampling": 1}, "progressive": {"progressive": True},
        "restarts": {"restart_marker_rows": 1}, "rgb": {"keep_rgb": True}, "profile": {"icc_profile": write_profile()},
        "density": {"dpi": (300, 300)}, "comment": {"comment": "\xff\xd9"},
    }.items():  # fmt: skip
        data = _write(photo, "JPEG", **options)
        yield ImageKind(f"{name}.jpg", "jpeg", data, _decode(data), lossy=True)
    data = _write(grey, "JPEG")
    yield ImageKind("grey.jpg", "jpeg", data, _decode(data), lossy=True)
    data = _write(photo[:1, :1], "JPEG")
    yield ImageKind("1x1.jpg", "jpeg", data, _decode(data), lossy=True)
    yield ImageKind("jpeg_named.png", "jpeg", data, _decode(data), lossy=True)
    yield ImageKind("more_after_it.jpg", "jpeg", data + b"more", _decode(data), lossy=True)
    data = _write(photo, "MPO", save_all=True, append_images=[_picture(255 - photo)])
    yield ImageKind("two_pictures.mpo", "jpeg", data, _decode(data), lossy=True)
    four = np.dstack([photo, 255 - grey]).astype(np.uint8)
    data = _write(Image.fromarray(four, "CMYK"), "JPEG", quality=95)
    for name, transform in (("cmyk", b"\0"), ("ycck", b"\2")):
        changed = data.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0" + transform)
        yield ImageKind(f"{name}.jpg", "jpeg", changed, _from_inks(changed), True, ("browser", "kotlin"))
    plain = data.replace(data[data.index(b"\xff\xee") : data.index(b"\xff\xee") + 16], b"")
    yield ImageKind("cmyk_plain.jpg", "jpeg", plain, _from_inks(plain), True, ("browser", "kotlin"))


def _make_others() -> Iterator[ImageKind]:
    """What only some loaders read."""
    rgb = _make_rgb(_draw(3), 8)
    sixteen = _draw(1, 65536)[..., 0].astype(np.uint16)
    grey = rgb[..., 0]
    header = f"P6\n# a comment\n{WIDTH} {HEIGHT}\n255\n".encode()
    yield ImageKind("colours.ppm", "ppm", header + rgb.tobytes(), rgb)
    yield ImageKind("colours_named.png", "ppm", header + rgb.tobytes(), rgb)
    for name, image in {"grey.pgm": grey, "bits.pbm": grey > 99}.items():
        yield ImageKind(name, "pnm", _write(image, "PPM"), _decode(_write(image, "PPM")))
    words = f"P3 {WIDTH} {HEIGHT} 255\n".encode() + b" ".join(b"%d" % value for value in rgb.ravel())
    yield ImageKind("words.ppm", "pnm", words, rgb)
    for suffix, options in {"bmp": {}, "webp": {"lossless": True}, "tiff": {}}.items():
        yield ImageKind(f"rgb.{suffix}", suffix, _write(rgb, suffix.upper(), **options), rgb)
    alpha = np.dstack([rgb, _draw(1)]).astype(np.uint8)
    data = _write(alpha, "WEBP", lossless=True, exact=True)
    yield ImageKind("alpha.webp", "webp", data, rgb, refused_by=("browser",))
    data = _write(_make_photo(), "WEBP", quality=90)
    yield ImageKind("photo.webp", "webp", data, _decode(data), lossy=True)
    data = _write(rgb, "WEBP", lossless=True, icc_profile=write_profile())
    yield ImageKind("profile.webp", "webp", data, rgb)
    second = [_picture(255 - rgb)]
    yield ImageKind(
        "animated.webp", "webp", _write(rgb, "WEBP", lossless=True, save_all=True, append_images=second), rgb
    )
    flat = np.full_like(rgb, (10, 200, 30))
    yield ImageKind("flat.gif", "gif", _write(flat, "GIF"), flat)
    data = _write(flat, "GIF", save_all=True, append_images=second)
    yield ImageKind("animated.gif", "gif", data, flat)
    data = _write(_picture(rgb).quantize(9), "GIF", transparency=2)
    yield ImageKind("clear.gif", "gif", data, _decode(data), refused_by=("browser",))
    yield ImageKind("grey.bmp", "bmp", _write(grey, "BMP"), grey[..., None].repeat(3, 2))
    yield ImageKind("bits.bmp", "bmp", _write(grey > 99, "BMP"), ((grey > 99) * np.uint8(255))[..., None].repeat(3, 2))
    high = (sixteen >> 8).astype(np.uint8)[..., None].repeat(3, 2)
    yield ImageKind("sixteen.tiff", "tiff", _write(sixteen, "TIFF"), high)
    yield ImageKind("integers.tiff", "tiff", _write(sixteen.astype(np.int32), "TIFF"), high)
    yield ImageKind("turned.tiff", "tiff", _write(rgb, "TIFF", tiffinfo={0x0112: 6}), turn(rgb, 6))
    yield ImageKind("float.tiff", "tiff", _write(grey.astype(np.float32), "TIFF"), None)
    yield ImageKind("negative.tiff", "tiff", _write(-grey.astype(np.int32), "TIFF"), None)


def _make_damaged() -> Iterator[ImageKind]:
    samples = _draw(3, height=40, width=50)
    png = write_png(samples, 8, COLOUR)
    start = png.index(b"IDAT")
    for name, data in {
        "cut_header": png[:20], "cut_data": png[: start + 2000], "cut_end": png[:-12], "cut_last": png[:-1],
        "wrong_sum": png[:-20] + bytes([png[-20] ^ 1]) + png[-19:],
        "wrong_byte": png[: start + 900] + bytes([png[start + 900] ^ 1]) + png[start + 901 :],
        "wrong_header": png[:20] + b"\0\0\0\x33" + png[24:],
        "wrong_filter": write_png(samples, 8, COLOUR).replace(png[start - 4 : -12], _idat(b"\5" + bytes(150) * 40)),
        "little_data": png.replace(png[start - 4 : -12], _idat(bytes(151) * 39)),
        "no_data": png[: start - 4] + png[-12:],
        "depth_3": _change_header(write_png(samples[..., :1] >> 5, 4, GREY), depth=3),
        "no_pixels": _change_header(png, width=0),
        "too_wide": _change_header(png, width=TOO_WIDE, height=TOO_WIDE),
        "no_palette": write_png(samples[..., :1], 8, PALETTE),
        "wrong_text_sum": write_png(samples, 8, COLOUR, before=write_chunk(b"tEXt", b"a\0b")[:-1] + b"?"),
        "signature": png[:8],
    }.items():  # fmt: skip
        yield ImageKind(f"{name}.png", "png", data, None)
    jpeg = _write(_make_photo(), "JPEG")
    start = jpeg.index(b"\xff\xda")
    frame = jpeg.index(b"\xff\xc0")
    side = struct.pack(">H", TOO_WIDE)
    for name, data in {
        "cut_header": jpeg[: frame + 4], "cut_data": jpeg[: start + 60], "cut_end": jpeg[:-2], "cut_last": jpeg[:-1],
        "start": jpeg[:3], "no_data": jpeg[: start] + b"\xff\xd9",
        "too_wide": jpeg[: frame + 5] + side + side + jpeg[frame + 9 :],
        "no_pixels": jpeg[: frame + 7] + b"\0\0" + jpeg[frame + 9 :],
        "twelve_bits": jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :],
        "lossless": jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :],
    }.items():  # fmt: skip
        yield ImageKind(f"{name}.jpg", "jpeg", data, None)
    rgb = _make_rgb(samples, 8)
    for suffix, options in {"gif": {}, "bmp": {}, "webp": {"lossless": True}, "tiff": {}, "ppm": {}}.items():
        yield ImageKind(f"cut.{suffix}", suffix, _write(rgb, suffix.upper(), **options)[:-700], None)
    yield ImageKind("cut_lossy.webp", "webp", _write(rgb, "WEBP")[:-700], None)


def _make_strangers() -> Iterator[ImageKind]:
    rgb = _make_rgb(_draw(3, height=16, width=16), 8)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9" fill="red"/></svg>'
    yield ImageKind("drawing.svg", "none", svg, None)
    yield ImageKind("text.png", "none", b"no image\n", None)
    yield ImageKind("empty.png", "none", b"", None)
    yield ImageKind("icon.ico", "none", _write(rgb, "ICO", sizes=[(16, 16)]), None)
    yield ImageKind("script.eps", "none", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", None)
    yield ImageKind("floats.pfm", "none", b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 2), None)


def _make_photo() -> Array:
    y, x = np.mgrid[:HEIGHT, :WIDTH] * 8
    return np.dstack([x, 255 - y * 2, (x + y) % 256]).clip(0, 255).astype(np.uint8)


def _picture(image: Array | Image.Image) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _write(image: Array | Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    _picture(image).save(file, kind, **options)
    return file.getvalue()


def _decode(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def _from_inks(data: bytes) -> Array:
    """A JPEG of four inks as Pillow's formula makes RGB of them: each colour is the share that two inks let pass."""
    with Image.open(io.BytesIO(data)) as image:
        inks = np.array(image).astype(int)
    paper = 255 - inks[..., 3:]
    product = inks[..., :3] * paper + 128
    return (paper - ((product >> 8) + product >> 8)).clip(0, 255).astype(np.uint8)


def _add_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def _idat(lines: bytes) -> bytes:
    return write_chunk(b"IDAT", zlib.compress(lines))


def _change_header(png: bytes, **changes: int) -> bytes:
    """With other words in the header, under a sum that is right."""
    names = ("width", "height", "depth", "kind", "compression", "filters", "interlaced")
    values = dict(zip(names, struct.unpack(">IIBBBBB", png[16:29]), strict=True)) | changes
    return png[:8] + write_chunk(b"IHDR", struct.pack(">IIBBBBB", *values.values())) + png[33:]
