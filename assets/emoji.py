#!/usr/bin/env python3
"""Makes the colour data set from Noto's emoji: small pictures in classes, with augmentation, as train.npz and test.npz.

Usage: assets/emoji.py PACKAGE OUT [--side 32] [--pictures 1500] [--test-pictures 100] [--font FILE] [--seed 1]

PACKAGE is the unpacked npm package emoji-datasource-google 16.0.0 (pictures: Noto Emoji, Google, Apache-2.0), which
`npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz` puts into package/.
Its pictures are 64 pixels wide. For larger ones, --font takes the same emoji, 128 pixels high, from NotoColorEmoji.ttf
of Debian's fonts-noto-color-emoji (emoji that the font lacks are left out).
Needs numpy and Pillow. The same arguments give the same files.

Every eighth emoji of a class, in the package's order, is for testing and never seen in training, in no variant of it.
Both sets have as many pictures a class as was asked for, of its emoji in turn: slightly turned, scaled and moved, and
mirrored where a mirrored one is still of its class. The background is white.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Class, the package's subcategories that make it up, and whether a mirror image belongs to it.
SETS = {
    "faces": [
        ("smiling", ["face-smiling"], True),
        ("loving", ["face-affection"], True),
        ("playful", ["face-tongue", "face-hat", "face-glasses"], True),
        ("hands", ["face-hand", "monkey-face"], True),
        ("calm", ["face-neutral-skeptical"], True),
        ("tired", ["face-sleepy", "face-unwell"], True),
        ("worried", ["face-concerned"], True),
        ("monster", ["face-negative", "face-costume"], True),
        ("cat", ["cat-face"], True),
        ("heart", ["heart"], True),
        ("shape", ["geometric"], True),
        ("clock", ["time"], False),
    ],
    "all": [
        ("face", ["face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy",
                  "face-unwell", "face-hat", "face-glasses", "face-concerned", "face-negative"], True),
        ("hand", ["hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"], True),
        ("animal", ["animal-mammal", "animal-amphibian", "animal-reptile", "cat-face", "monkey-face"], True),
        ("bird fish insect", ["animal-bird", "animal-marine", "animal-bug"], True),
        ("plant", ["plant-flower", "plant-other", "food-fruit", "food-vegetable"], True),
        ("meal", ["food-prepared", "food-asian", "food-sweet", "drink", "dishware"], True),
        ("vehicle", ["transport-ground", "transport-water", "transport-air"], True),
        ("building", ["place-building", "place-religious", "place-other", "place-geographic"], True),
        ("sky", ["sky & weather"], True),
        ("clothing", ["clothing"], True),
        ("tool", ["tool", "household", "office", "computer", "science", "medical", "writing", "musical-instrument"], True),
        ("flag", ["country-flag"], False),
    ],
}
HELD_BACK = 8  # one in so many emoji is a test picture


def premultiplied(picture):
    """Colours multiplied by alpha, so that turning and scaling does not bleed."""
    return picture.convert("RGBA").convert("RGBa")


class Package:
    """The package's pictures, 64 x 64."""

    def __init__(self, package):
        self.folder = package / "img" / "google" / "64"

    def load(self, emoji):
        file = self.folder / emoji["image"]
        return premultiplied(Image.open(file)) if file.is_file() else None


class Font:
    """The pictures of a font with bitmaps of 136 x 128, on a square of 136."""

    def __init__(self, file):
        self.font = ImageFont.truetype(str(file), 109)

    def load(self, emoji):
        text = "".join(chr(int(code, 16)) for code in emoji["unified"].split("-"))
        left, top, right, bottom = self.font.getbbox(text)
        if right - left != 136:  # none, or the parts of a sequence side by side
            return None
        canvas = Image.new("RGBA", (136, 136))
        ImageDraw.Draw(canvas).text((-left, (136 - (bottom - top)) // 2 - top), text, font=self.font, embedded_color=True)
        return premultiplied(canvas)


def on_white(picture):
    """Bytes [side][side][3] of a picture with premultiplied colours."""
    pixels = np.asarray(picture, dtype=np.int32)
    return np.minimum(pixels[..., :3] + 255 - pixels[..., 3:], 255).astype(np.uint8)


def warp(picture, side, angle, scale, dx, dy, mirror):
    """The picture turned (radians), scaled, moved (in parts of its side) on a canvas of side x side, area-averaged."""
    factor = max(2, 128 // side)
    n = side * factor
    width, height = picture.size
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    flip = -1 if mirror else 1
    # From the canvas's pixels to the picture's, about both centres.
    a, b = flip * c * width / n, flip * s * width / n
    d, e = -s * height / n, c * height / n
    x, y = n * (0.5 + dx), n * (0.5 + dy)
    rows = (a, b, width / 2 - a * x - b * y, d, e, height / 2 - d * x - e * y)
    return picture.transform((n, n), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR).reduce(factor)


def variants(entry):
    """An emoji and its variants of skin."""
    return [entry] + list(entry.get("skin_variations", {}).values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--set", choices=SETS, default="faces", help="moods of faces and a few things as round, or emoji of all kinds")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=1500, help="training pictures a class")
    parser.add_argument("--test-pictures", type=int, default=100, help="test pictures a class")
    parser.add_argument("--font", type=pathlib.Path, help="NotoColorEmoji.ttf, for pictures of more than 64 pixels")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    entries = sorted(json.loads((args.package / "emoji.json").read_text()), key=lambda e: e["sort_order"])
    source = Font(args.font) if args.font else Package(args.package)
    random = np.random.default_rng(args.seed)
    splits = {"train": ([], []), "test": ([], [])}
    for label, (name, subcategories, mirror) in enumerate(SETS[args.set]):
        members = [e for e in entries if e["subcategory"] in subcategories and e["has_img_google"]]
        emoji = {"train": [], "test": []}
        for i, entry in enumerate(members):
            emoji["test" if i % HELD_BACK == HELD_BACK - 1 else "train"] += variants(entry)
        for split, count in (("train", args.pictures), ("test", args.test_pictures)):
            sources = [s for s in map(source.load, emoji[split]) if s is not None]
            for i in range(count):
                pose = (random.uniform(-0.15, 0.15), random.uniform(0.85, 1.05), *random.uniform(-0.04, 0.04, 2),
                        mirror and random.random() < 0.5)
                splits[split][0].append(on_white(warp(sources[i % len(sources)], args.side, *pose)))
                splits[split][1].append(label)
            print(f"{label:2} {name:18} {count} pictures of {len(sources)} emoji to {split} with", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, (pictures, labels) in splits.items():
        np.savez_compressed(args.out / f"{split}.npz", arr_0=np.stack(pictures), arr_1=np.array(labels, dtype=np.int64))
    (args.out / "classes.txt").write_text("".join(f"{name}\n" for name, _, _ in SETS[args.set]))


if __name__ == "__main__":
    main()
