"""Pictures and shards for the tests of inputs, and what a source tells."""

import io
import tarfile
from pathlib import Path

from PIL import Image

from atlas.sources.summary import Tallied


def image_bytes(colour="red", form="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(out, form)
    return out.getvalue()


PNG = image_bytes()


def told(source):
    tallied = Tallied(source)
    items = list(tallied)
    tally = tallied.tally
    assert sum(tally.kinds.values()) == len(items)
    return items, tally


def write_tar(path, members):
    """`members`: (name, content), or (name, Path) for a hard link to another."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, Path):
                info.type, info.linkname = tarfile.LNKTYPE, str(data)
                tar.addfile(info)
                continue
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
