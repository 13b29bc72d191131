#!/usr/bin/env python3
"""Draws receipt.jpg: a till receipt as a phone would photograph it on a wooden table.

Everything is synthetic (names, numbers and prices are made up), so the picture carries no one's rights but this project's.
Needs Pillow, NumPy and the Liberation fonts (Debian: fonts-liberation). Deterministic: one seed, no clock.

    pip install pillow numpy && python3 examples/ocr/make_photo.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).resolve().parent
FONTS = Path("/usr/share/fonts/truetype/liberation")
SIZE = (1088, 1344)  # photograph, width and height
PAPER = (760, 1150)
INK = (46, 44, 52)
random = np.random.default_rng(1913)


def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / f"Liberation{name}.ttf"), size)


def smooth_noise(width: int, height: int, cell: int) -> np.ndarray:
    """Noise in [0, 1] that varies over about `cell` pixels."""
    coarse = random.random((height // cell + 3, width // cell + 3)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


def wooden_table() -> Image.Image:
    """Boards with grain: stretched noise bends sine waves."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    bend = smooth_noise(width, height, 180) * 46 + smooth_noise(width, height, 60) * 9
    grain = 0.5 + 0.5 * np.sin((y + 0.12 * x + bend) / 5.5)
    fine = np.asarray(Image.fromarray(random.random((height, width // 24)).astype(np.float32)).resize((width, height), Image.BICUBIC))
    board = np.floor((y + 0.12 * x) / 236)
    tone = 0.82 + 0.09 * np.sin(board * 12.9) + 0.13 * grain + 0.12 * (fine - 0.5)
    seam = np.minimum(1, np.abs(((y + 0.12 * x) % 236) - 2) / 3)
    tone = tone * (0.45 + 0.55 * seam)
    rgb = tone[..., None] * np.array([126, 86, 54], np.float32)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def receipt() -> Image.Image:
    """The flat paper with its print, its stamp and its sticker; transparent outside the torn lower edge."""
    width, height = PAPER
    paper = Image.new("RGB", PAPER, (240, 237, 228))
    draw = ImageDraw.Draw(paper)
    mono, bold = font("Mono-Regular", 31), font("Mono-Bold", 31)

    def centred(y: int, text: str, face: ImageFont.FreeTypeFont) -> None:
        draw.text((width / 2, y), text, INK, face, anchor="ma")

    def priced(y: int, what: str, price: str, face: ImageFont.FreeTypeFont = mono) -> None:
        draw.text((62, y), what, INK, face, anchor="la")
        draw.text((width - 84, y), price, INK, face, anchor="ra")

    centred(52, "NORTH QUAY BOOKSHOP", font("Sans-Bold", 46))
    centred(120, "12 Harbour Lane Kingsbridge", font("Sans-Regular", 33))
    centred(172, "Receipt 20417", mono)
    draw.line((62, 232, width - 84, 232), INK, 2)
    priced(258, "A Field Guide to Birds", "18.50")
    priced(314, "Ruled notebook", "9.80")
    priced(370, "Fountain pen ink", "12.25")
    priced(426, "Lighthouse postcard", "4.50")
    draw.line((62, 486, width - 84, 486), INK, 2)
    priced(508, "Subtotal", "45.05")
    priced(564, "Tax included", "3.60")
    priced(622, "TOTAL", "48.65", font("Mono-Bold", 38))
    centred(946, "Thank you for reading", font("Serif-Italic", 42))
    centred(1018, "Exchange within 30 days", mono)
    paste_turned(paper, stamp(), 14, (66, 700))
    paste_turned(paper, sticker(), 183, (440, 716))
    side = Image.new("RGBA", (420, 40), (0, 0, 0, 0))
    ImageDraw.Draw(side).text((210, 4), "Keep for your records", (*INK, 235), font("Sans-Regular", 28), anchor="ma")
    paste_turned(paper, side, 90, (width - 60, 330))

    shade = 0.93 + 0.09 * smooth_noise(width, height, 150) + 0.03 * (smooth_noise(width, height, 6) - 0.5)
    fold = np.mgrid[0:height, 0:width][0].astype(np.float32) - 498
    shade += 0.07 * np.exp(-((fold - 7) / 9) ** 2) - 0.10 * np.exp(-((fold + 5) / 8) ** 2)
    fade = 1 - 0.16 * smooth_noise(width, height, 90)[..., None]  # thermal print comes out paler here and there
    pixels = 240 - (240 - np.asarray(paper).astype(np.float32)) * fade
    rgb = np.clip(pixels * shade[..., None], 0, 255).astype(np.uint8)
    alpha = Image.new("L", PAPER, 0)
    teeth = [(x, height - (2 if (x // 9) % 2 else 11)) for x in range(width, -1, -9)]
    ImageDraw.Draw(alpha).polygon([(0, 0), (width, 0), *teeth], 255)
    result = Image.fromarray(rgb)
    result.putalpha(alpha)
    return result


def stamp() -> Image.Image:
    image = Image.new("RGBA", (270, 110), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    ink = (150, 32, 44, 225)
    draw.rounded_rectangle((4, 4, 265, 105), 14, None, ink, 6)
    draw.text((135, 55), "PAID CASH", ink, font("Sans-Bold", 42), anchor="mm")
    worn = smooth_noise(270, 110, 5) * 0.5 + 0.62
    alpha = np.asarray(image.getchannel("A")).astype(np.float32) * np.clip(worn, 0, 1)
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


def sticker() -> Image.Image:
    image = Image.new("RGBA", (270, 124), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, 269, 123), 12, (247, 205, 74, 255))
    draw.text((135, 38), "SIGNED COPY", (32, 44, 92), font("Sans-Bold", 34), anchor="mm")
    draw.text((135, 86), "by the author", (32, 44, 92), font("Sans-Regular", 32), anchor="mm")
    return image


def paste_turned(onto: Image.Image, what: Image.Image, degrees: float, at: tuple[int, int]) -> None:
    turned = what.rotate(degrees, Image.BICUBIC, expand=True)
    onto.paste(turned, at, turned)


def perspective(corners: list[tuple[float, float]]) -> list[float]:
    """Pillow's eight coefficients that take photograph points back to paper points."""
    width, height = PAPER
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (width, 0), (width, height), (0, height)]):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return list(np.linalg.solve(np.array(rows, float), np.array(values, float)))


def photograph() -> Image.Image:
    width, height = SIZE
    corners = [(196, 92), (898, 52), (968, 1232), (112, 1276)]  # further from the camera at the top, turned a little
    laid = receipt().transform(SIZE, Image.PERSPECTIVE, perspective(corners), Image.BICUBIC)
    scene = wooden_table()
    shadow = laid.getchannel("A").filter(ImageFilter.GaussianBlur(13)).transform(SIZE, Image.AFFINE, (1, 0, -12, 0, 1, -15))
    scene = Image.composite(Image.new("RGB", SIZE, (26, 18, 12)), scene, shadow.point(lambda a: a * 0.62))
    scene.paste(laid, (0, 0), laid)

    pixels = np.asarray(scene.filter(ImageFilter.GaussianBlur(0.75))).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    lamp = np.exp(-(((x - 330) / 900) ** 2 + ((y - 360) / 1050) ** 2))  # one warm lamp, upper left
    hand = 1 / (1 + np.exp(-(x - 0.34 * y - 640) / 42))  # soft edge of the photographer's shadow
    light = (0.52 + 0.56 * lamp) * (1 - 0.24 * hand)
    pixels *= light[..., None] * np.array([1.03, 1.0, 0.92], np.float32)
    noise = random.normal(0, 1, (height, width, 3)).astype(np.float32) * 2.4 + random.normal(0, 1, (height, width, 1)).astype(np.float32) * 2.6
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    photograph().save(HERE / "receipt.jpg", quality=80, subsampling=2)
