"""A single file: a page of a folder with its style, scripts and pictures inside."""

import gzip
import re
from base64 import b64encode
from pathlib import Path

from atlas.errors import Refused

_SCRIPT = re.compile(r'<script src="([^"]+)"></script>')
_STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_ADDRESS = re.compile(r'url\("([^":]+\.webp)"\)')
_STILL = re.compile(r'src="(assets/map\.webp)"')
# Unpacks and runs a packed script; it needs atlas.js.
_UNPACK = """atlas.library = (async (packed) => {
  const code = new TextDecoder().decode(await atlas.inflate(atlas.bytes(packed)));
  document.head.append(Object.assign(document.createElement("script"), { textContent: code }));
})("%s");
"""


def packed_script(code: str) -> str:
    """A large script that holds itself gzipped, at two fifths of its size; the browser unpacks it."""
    return _UNPACK % b64encode(gzip.compress(code.encode(), 9, mtime=0)).decode()


def inline_assets(folder: Path, page: str, tables: list[str]) -> str:
    """The HTML of a page of a folder with its style, scripts, pictures and the scripts in `tables` written into it."""
    html = (folder / page).read_text("utf-8")
    html = _STYLE.sub(lambda found: f"<style>{_style(folder / found[1])}</style>", html)
    html = _STILL.sub(lambda found: f'src="{data_uri(folder / found[1])}"', html)
    html = html.replace("<body ", '<body data-whole="" ', 1)
    for own in (page, "index.html"):
        html = html.replace(f'href="{own}"', 'href="#"')  # whatever name the file has
    used = {path for path in tables if f'src="{path}"' in html}
    html = _SCRIPT.sub(lambda found: _script(folder / found[1]), html)
    rest = "".join(_script(folder / path) for path in tables if path not in used)
    return html.replace("</body>", f"{rest}</body>")


def data_uri(path: Path) -> str:
    """A picture as a data URI."""
    return f"data:image/webp;base64,{b64encode(path.read_bytes()).decode()}"


def _style(path: Path) -> str:
    """A style sheet with its pictures inside; one that this page does not have, such as icons of cells, is none."""

    def inside(found: re.Match[str]) -> str:
        picture = path.parent / found[1]
        return f'url("{data_uri(picture)}")' if picture.is_file() else "none"

    return _ADDRESS.sub(inside, path.read_text("utf-8"))


def _script(path: Path) -> str:
    text = path.read_text("utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise Refused(
            f"{path} cannot be written into a page, because it holds the end of a script; write a folder instead"
        )
    return f"<script>{text}</script>"
