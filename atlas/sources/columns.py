"""The columns of tables: which one holds the picture, the caption, the label, the group and the split."""

from collections.abc import Mapping, Sequence

from atlas.errors import Refused
from atlas.sources.items import printable_line

# Names as people write them, most telling first; compared without case, blanks, dashes and underscores.
ROLES = {
    "image": (
        "image", "path", "file", "filename", "filepath", "imagepath", "imgpath", "img", "imagefile", "imgfile",
        "imagename", "imgname", "imagefilename", "imagefilepath", "localpath", "relpath", "relativepath", "fname",
        "picture", "photo", "images", "imgs", "imagepaths", "jpg", "jpeg", "png", "webp", "imagebytes", "imgbytes",
        "imagedata", "bytes", "src",
    ),
    "caption": (
        "caption", "captions", "text", "texts", "txt", "title", "prompt", "prompts", "description", "alt", "alttext",
        "sentence", "sentences", "comment", "imagecaption", "captiontext", "longcaption", "raw", "tags",
    ),
    "label": (
        "labelname", "labeltext", "classname", "categoryname", "targetname", "label", "labels", "class", "classlabel",
        "target", "cls", "category",
    ),
    "group": ("group", "style"),
    "split": ("split", "partition", "fold"),
}  # fmt: skip
IDS = ("imageid", "imgid", "id", "key", "uid")  # names of pictures without their suffix
ADDRESSES = ("url", "imageurl", "imgurl", "link", "imagelink", "href")
PICTURE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".ico", ".icns", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".qoi", ".pcx", ".psd", ".sgi", ".mpo",
    ".heic", ".heif", ".hif", ".jxl", ".svg", ".eps", ".ps", ".exr", ".hdr", ".dds", ".tga", ".dcm", ".fits",
    ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f",
))  # fmt: skip


def plain_name(column: str) -> str:
    """A column's name without case, blanks and punctuation: "Image Path", "image-path", "imagePath" are one name."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def looks_like_picture(value: object) -> bool:
    """Whether a cell holds the path or the address of a picture, by its suffix."""
    text = value.strip().lower() if isinstance(value, str) else ""
    starts = (text, text.partition("?")[0].partition("#")[0])
    return any("." in start[-6:] and f".{start.rpartition('.')[2]}" in PICTURE_SUFFIXES for start in starts)


def is_address(value: object) -> bool:
    """Whether a cell holds an address on the network or in a cloud."""
    return isinstance(value, str) and value.lstrip().lower().startswith(("http:", "https:", "s3:", "gs:", "ftp:"))


def column_roles(
    found: Sequence[str], asked: Mapping[str, str], where: str, sample: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Find the columns of the image, the caption, the label, the group and the split: {role: column}.

    `found`: the columns of a table. `asked`: columns named by the user, which take precedence. `sample`: a row, in
    which a picture's path is recognised where no column has a usual name. Raises `Refused` if a column asked for is
    missing, or if no column holds images; `where` begins the message.
    """
    there = ", ".join(map(printable_line, found)) or "none"
    for column in asked.values():
        if column not in found:
            raise Refused(f"{where}: no column {column!r}; found: {there}")
    plain = {plain_name(column): column for column in reversed(found)}
    known = {role: next((plain[name] for name in names if name in plain), None) for role, names in ROLES.items()}
    chosen = {role: column for role, column in {**known, **asked}.items() if column is not None}
    twice = next((column for column in chosen.values() if list(found).count(column) > 1), None)
    if twice is not None:
        raise Refused(f"{where}: two columns are called {printable_line(twice)!r}; rename one")
    named = [column for column in found if sample and looks_like_picture(sample.get(column))]
    addresses = [column for column in named if sample and is_address(sample.get(column))]
    pictures = [column for column in named if column not in addresses]
    usual = chosen.get("image")
    if pictures and "image" not in asked and (usual is None or (sample and _names_no_file(sample.get(usual)))):
        chosen["image"] = next((plain[name] for name in ROLES["image"] if plain.get(name) in pictures), pictures[0])
    if "image" not in chosen or _is_address_column(chosen["image"], asked, sample):
        address = next((plain[name] for name in ADDRESSES if name in plain), chosen.get("image", *addresses[:1]))
        if address is not None:
            raise Refused(
                f"{where}: its pictures are addresses (column {address}): download them first, as img2dataset does, "
                "and name the folder that it writes"
            )
        raise Refused(f"{where}: no column image, path or file; found: {there} (name it: ?image=COLUMN)")
    taken = chosen["image"]
    return {role: column for role, column in chosen.items() if role == "image" or column != taken or role in asked}


def _names_no_file(cell: object) -> bool:
    """Whether a cell of the usual column is a number or an address, so that another column may name the file."""
    return is_address(cell) or isinstance(cell, int | float) or (isinstance(cell, str) and cell.strip().isdecimal())


def _is_address_column(column: str, asked: Mapping[str, str], sample: Mapping[str, object] | None) -> bool:
    return plain_name(column) in ADDRESSES and "image" not in asked and bool(sample) and is_address(sample.get(column))


def roles_in_words(roles: Mapping[str, str], columns: Sequence[str]) -> str:
    """The columns in use and those that are not, as one line."""
    used = ", ".join(f"{role} = {printable_line(column)}" for role, column in roles.items())
    rest = [printable_line(column) for column in columns if column and column not in roles.values()]
    few = ", ".join(rest[:6]) + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
    return f"columns: {used}" + (f"; not used: {few}" if rest else "")
