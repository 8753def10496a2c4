#!/usr/bin/env python3
"""Makes the colour data set from Noto's emoji: small pictures in classes, with augmentation, as train.npz and test.npz.

Usage: assets/emoji.py PACKAGE OUT [--side 32] [--pictures 1500] [--seed 1]

PACKAGE is the unpacked npm package emoji-datasource-google 16.0.0 (pictures: Noto Emoji, Google, Apache-2.0), which
`npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz` puts into package/.
Needs numpy and Pillow. The same arguments give the same files.

Every eighth emoji of a class, in the package's order, is a test picture and never seen in training, in no variant of
it. Test pictures are drawn once and upright; training pictures as often as it takes to `pictures` a class, slightly
turned, scaled and moved, and mirrored where a mirrored one is still of its class. The background is white.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image

# Class, the package's subcategories that make it up, and whether a mirror image belongs to it.
CLASSES = [
    ("face", ["face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy",
              "face-unwell", "face-hat", "face-glasses", "face-concerned", "face-negative"], True),
    ("hand", ["hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"], True),
    ("animal", ["animal-mammal", "animal-amphibian", "animal-reptile", "cat-face", "monkey-face"], True),
    ("bird, fish, insect", ["animal-bird", "animal-marine", "animal-bug"], True),
    ("plant", ["plant-flower", "plant-other", "food-fruit", "food-vegetable"], True),
    ("meal", ["food-prepared", "food-asian", "food-sweet", "drink", "dishware"], True),
    ("vehicle", ["transport-ground", "transport-water", "transport-air"], True),
    ("building", ["place-building", "place-religious", "place-other", "place-geographic"], True),
    ("sky", ["sky & weather"], True),
    ("clothing", ["clothing"], True),
    ("tool", ["tool", "household", "office", "computer", "science", "medical", "writing", "musical-instrument"], True),
    ("flag", ["country-flag"], False),
]
HELD_BACK = 8  # one in so many emoji is a test picture


def load(path):
    """An RGBA picture, colours multiplied by alpha so that turning and scaling does not bleed."""
    pixels = np.asarray(Image.open(path).convert("RGBA"), dtype=np.float64) / 255
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


def on_white(pixels):
    rgb = pixels[..., :3] + (1 - pixels[..., 3:])
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)


def warp(pixels, side, angle, scale, dx, dy, mirror):
    """The picture turned (radians), scaled, moved (in parts of its side) on a canvas of side x side, area-averaged."""
    factor = 4
    n = side * factor
    height, width = pixels.shape[:2]
    ys, xs = np.mgrid[0:n, 0:n]
    u = (xs + 0.5) / n - 0.5 - dx
    v = (ys + 0.5) / n - 0.5 - dy
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    u, v = c * u + s * v, c * v - s * u
    if mirror:
        u = -u
    x, y = (u + 0.5) * width - 0.5, (v + 0.5) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]

    def at(yy, xx):
        inside = (yy >= 0) & (yy < height) & (xx >= 0) & (xx < width)
        return pixels[yy.clip(0, height - 1), xx.clip(0, width - 1)] * inside[..., None]

    big = ((at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx) * (1 - fy)
           + (at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx) * fy)
    return big.reshape(side, factor, side, factor, 4).mean(axis=(1, 3))


def images(entry, folder):
    """Files of an emoji and of its variants of skin, those that the package has."""
    files = [entry["image"]] + [v["image"] for v in entry.get("skin_variations", {}).values()]
    return [folder / f for f in files if (folder / f).is_file()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=1500, help="training pictures a class")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    entries = sorted(json.loads((args.package / "emoji.json").read_text()), key=lambda e: e["sort_order"])
    folder = args.package / "img" / "google" / "64"
    random = np.random.default_rng(args.seed)
    splits = {"train": ([], []), "test": ([], [])}
    for label, (name, subcategories, mirror) in enumerate(CLASSES):
        members = [e for e in entries if e["subcategory"] in subcategories and e["has_img_google"]]
        files = {"train": [], "test": []}
        for i, entry in enumerate(members):
            files["test" if i % HELD_BACK == HELD_BACK - 1 else "train"] += images(entry, folder)
        for file in files["test"]:
            splits["test"][0].append(on_white(warp(load(file), args.side, 0.0, 0.95, 0.0, 0.0, False)))
            splits["test"][1].append(label)
        sources = [load(file) for file in files["train"]]
        for i in range(args.pictures):
            pose = (random.uniform(-0.15, 0.15), random.uniform(0.85, 1.05), *random.uniform(-0.04, 0.04, 2),
                    mirror and random.random() < 0.5)
            splits["train"][0].append(on_white(warp(sources[i % len(sources)], args.side, *pose)))
            splits["train"][1].append(label)
        print(f"{label:2} {name:18} {args.pictures} training pictures of {len(sources)} emoji, {len(files['test'])} test pictures")
    args.out.mkdir(parents=True, exist_ok=True)
    for split, (pictures, labels) in splits.items():
        np.savez_compressed(args.out / f"{split}.npz", arr_0=np.stack(pictures), arr_1=np.array(labels, dtype=np.int64))
    (args.out / "classes.txt").write_text("".join(f"{name}\n" for name, _, _ in CLASSES))


if __name__ == "__main__":
    main()
