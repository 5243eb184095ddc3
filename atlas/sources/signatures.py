"""What a file is that Pillow does not read, by its first bytes: the reason that a reader can act on."""

import re
from pathlib import Path

HEAD = 512  # bytes that signatures are looked for in
RAW_SUFFIXES = frozenset(
    (".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f")
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "RAW",
}
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),
    (b"FOVb", "RAW"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"version https://git-lfs", "LFS"),
    (b"version https://hawser", "LFS"),
    (b"PK\x03\x04", "an archive (zip)"),
    (b"\x1f\x8b", "an archive (gzip)"),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7z)"),
    (b"Rar!", "an archive (rar)"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\0\0\x01\xba", "a video"),
    (b"OggS", "sound or a video"),
    (b"ID3", "sound"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"#?RADIANCE", "HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "HDF5"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3", "a database"),
    (b"gimp xcf", "XCF"),
    (b"DDS ", "DDS"),
)
_PICTURE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{12}|II[*+]\0|MM\0[*+]|P[1-7][\s#]|RIFF.{4}WEBP|.{4}ftypavi[fs]|qoif|8BPS|icns"
    rb"|\0\0\x01\0.\0|\0\0\0\x0cjP  |\xff\x4f\xff\x51|\x01\xda[\x00\x01][\x01\x02]",
    re.DOTALL,
)
_ADVICE = {
    "HEIC": "HEIC: convert it, or pip install pillow-heif",
    "JXL": "JPEG XL: convert it, or pip install pillow-jxl-plugin",
    "RAW": "RAW of a camera: convert it to JPEG or TIFF, as rawpy or darktable do",
    "LFS": "a Git LFS pointer, not the picture: git lfs pull brings it",
    "SVG": "SVG: convert it to PNG, as rsvg-convert or Inkscape do",
    "PDF": "PDF: convert its pages to PNG",
    "EPS": "PostScript: convert it to PNG",
    "HTML": "an HTML page, not a picture: the download failed",
    "DICOM": "DICOM: convert it to PNG, as pydicom does",
    "zeros": "zeros alone: the file was not written to the end",
}


def kind_of_file(head: bytes) -> str:
    """What a file is by its first bytes: "HEIC", "RAW", "HTML", "a video", "text"; "" if that is not known."""
    if head and not head.strip(b"\0"):
        return "zeros"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[8:10] == b"CR" and head[:4] == b"II*\0":
        return "RAW"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video")
    if head[:4] == b"RIFF":
        return {b"AVI ": "a video", b"WAVE": "sound"}.get(head[8:12], "")
    if head[128:132] == b"DICM":
        return "DICOM"
    return _kind_of_text(head)


def is_picture_head(head: bytes) -> bool:
    """Whether a file with these first bytes is a picture: one that Pillow reads, or of a kind with advice for it."""
    return bool(_PICTURE_STARTS.match(head)) or kind_of_file(head) in (
        "HEIC",
        "JXL",
        "RAW",
        "SVG",
        "DICOM",
        "EXR",
        "HDR",
    )


def _kind_of_text(head: bytes) -> str:
    lower = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in lower:
        return "HTML"
    if lower.startswith(b"<svg") or (lower.startswith((b"<?xml", b"<!")) and b"<svg" in lower):
        return "SVG"
    if lower.startswith(b"<?xml"):
        return "HTML" if b"error" in lower else "XML"
    if lower.startswith((b"{", b"[")) and re.match(rb"[\[{]\s*[\"\[{\]}\d]", lower):
        return "JSON"
    text = head.removesuffix(head[-3:]) if len(head) == HEAD else head  # a sample may end inside a letter
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    plain = sum(letter.isprintable() or letter in "\t\r\n" for letter in decoded)
    return "text" if len(decoded) > 3 and plain == len(decoded) else ""


def advice_on(kind: str, wanted: str = "picture") -> str:
    """The reason for a file of this kind where another is `wanted`, in one line, with what to do about it."""
    return _ADVICE.get(kind, f"{kind}, not a picture").replace("picture", wanted)


def never_arrived(file: Path) -> str:
    """Why a file is not the one that was meant, if it is a pointer, a web page or zeros; "" for others."""
    kind = kind_of_file(head_of(file))
    return advice_on(kind, "file") if kind in ("LFS", "HTML", "zeros") else ""


def head_of(data: bytes | Path) -> bytes:
    """The first bytes of a file, or of its content."""
    if isinstance(data, bytes):
        return data[:HEAD]
    with data.open("rb") as file:
        return file.read(HEAD)
