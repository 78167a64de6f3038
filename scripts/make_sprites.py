"""Make the bundle that composed scenes are made from: blendlab/pictures/assets.

    python scripts/make_sprites.py [--tarball lobehub-fluent-emoji-3d-1.1.0.tgz]

Reads assets/sprites.json (which sprites and photographs, and their split), fetches the emoji with `npm pack` unless a
tarball is given, takes the photographs from scikit-image (needed here only, not by blendlab), and writes
assets/sprites/*.webp and assets/photographs/*.webp. The same inputs and versions of Pillow give the same files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

ASSETS = Path(__file__).resolve().parents[1] / "blendlab" / "pictures" / "assets"
PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
SPRITE_SIDE = 128  # long side in px; the largest sprite of a 128 px scene is 72 px, stretched 86
PHOTO_SIDE = 512  # short side in px at most


def make_sprite(source: Image.Image) -> Image.Image:
    """Cut to what is visible, shrink, and leave a clear pixel on each side, so that a turned edge stays smooth.

    Resized with premultiplied alpha: otherwise a dark rim appears.
    """
    source = source.convert("RGBA")
    source = source.crop(source.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    ratio = (SPRITE_SIDE - 2) / max(source.size)
    size = (round(source.width * ratio), round(source.height * ratio))
    small = source.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return ImageOps.expand(small, border=1, fill=(0, 0, 0, 0))


def make_photograph(source: Image.Image) -> Image.Image:
    ratio = min(1, PHOTO_SIDE / min(source.size))
    size = (round(source.width * ratio), round(source.height * ratio))
    return source.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def fetch(folder: str) -> Path:
    done = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True)
    return Path(folder) / done.stdout.split()[-1]


def write_all(tarball: Path) -> None:
    import skimage

    split = json.loads((ASSETS / "sprites.json").read_text())
    for name in ("sprites", "photographs"):
        shutil.rmtree(ASSETS / name, ignore_errors=True)
        (ASSETS / name).mkdir()
    with tarfile.open(tarball) as tar:
        for category in split["categories"].values():
            for code in category["train"] + category["unseen"]:
                with Image.open(tar.extractfile(f"package/assets/{code}.webp")) as source:
                    sprite = make_sprite(source)
                sprite.save(ASSETS / "sprites" / f"{code}.webp", quality=88, alpha_quality=90, method=6)
    photographs = split["photographs"]
    for file in photographs["train"] + photographs["held_out"]:
        with Image.open(Path(skimage.__file__).parent / "data" / file) as source:
            photograph = make_photograph(source)
        photograph.save(ASSETS / "photographs" / f"{Path(file).stem}.webp", quality=85, method=6)
    for name in ("sprites", "photographs"):
        files = list((ASSETS / name).iterdir())
        print(f"{name}: {len(files)} files, {sum(file.stat().st_size for file in files):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tarball", type=Path, help="the npm package, if it is here already")
    given = parser.parse_args().tarball
    with tempfile.TemporaryDirectory() as folder:
        write_all(given or fetch(folder))


if __name__ == "__main__":
    main()
