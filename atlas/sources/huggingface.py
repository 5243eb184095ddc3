"""Data sets of Hugging Face, by their name on the hub or in a local folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from atlas.errors import Refused
from atlas.sources.columnar import holds_several, storage_type
from atlas.sources.columns import column_roles, roles_in_words
from atlas.sources.items import Item, Note, image_item, only_items, printable_line
from atlas.sources.tablepictures import decode_cell, note_on_several
from atlas.sources.values import cell_texts

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class HuggingFace:
    """One split of a Hugging Face data set, given by its name on the hub or by a local folder."""

    name: str
    spec: str
    data: str
    split: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and a note on the columns."""
        rows = _data_set(self.data, self.split)
        found = column_roles(rows.column_names, self.columns, self.spec)
        yield Note("taken", roles_in_words(found, rows.column_names))
        if holds_several(storage_type(rows.features.arrow_schema.field(found["image"]).type)):
            yield note_on_several(found["image"])
        readers = {role: _reader(rows.features[column]) for role, column in found.items()}
        columns = [column for role, column in found.items() if role != "image"]
        cells = rows.select_columns(columns) if columns else repeat({}, len(rows))
        for number, row in enumerate(map(dict, cells)):
            texts = {role: readers[role](row[column]) for role, column in found.items() if role != "image"}
            texts["split"] = texts.get("split") or (self.split,)
            load = partial(_decode_row, self.data, self.split, found["image"], number)
            yield image_item(f"{self.name}/{self.split}/{number}", self.spec, texts, load)


def _reader(feature: object) -> Callable[[object], tuple[str, ...]]:
    """The function that turns a cell into texts: class numbers become class names."""
    names = getattr(feature, "int2str", None)
    if names is None:
        return cell_texts
    return lambda cell: cell_texts(names(cell)) if isinstance(cell, int) and cell >= 0 else ()


def _decode_row(data: str, split: str, column: str, number: int) -> Image.Image:
    return decode_cell(_images(data, split, column)[number][column], Path())


@lru_cache(4)
def _images(data: str, split: str, column: str) -> "Dataset":
    """The image column alone, with its cells still encoded."""
    from datasets import Image as Feature

    rows = _data_set(data, split).select_columns([column])
    encoded = isinstance(rows.features[column], Feature)
    return rows.cast_column(column, Feature(decode=False)) if encoded else rows


@lru_cache(4)
def _data_set(data: str, split: str) -> "Dataset":
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise Refused('a Hugging Face data set needs datasets: pip install "multimodal-atlas[hf]"') from None
    saved = Path(data)
    try:
        if any((saved / mark).is_file() for mark in ("state.json", "dataset_dict.json")):  # by save_to_disk
            rows = datasets.load_from_disk(data)
        else:
            rows = datasets.load_dataset(data)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise Refused(f"hf:{data}: cannot be loaded ({printable_line(error)[:160]})") from None
    if isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise Refused(f"hf:{data}: no split {split!r}; it has {', '.join(map(str, rows))} (hf:{data}:SPLIT)")
        return rows[split]
    return rows
