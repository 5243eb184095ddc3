"""Records in JSON: lines, lists, and the tables that pandas, trainers and COCO write as one object."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.coco import coco_records, is_coco
from atlas.sources.columns import ROLES, looks_like_picture, plain_name
from atlas.sources.items import SPLITS, printable_line
from atlas.sources.textfiles import MAX_RECORDS, check_regular

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, with the reason."""

    reason: str


Row = Mapping[str, object] | BadRow


def json_row(line: str) -> Row:
    """The row in a line of JSON."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(f"is not JSON ({printable_line(error)[:100]})")
    return row if isinstance(row, dict) else BadRow("is not a JSON object")


def json_records(file: Path, encoding: str) -> Iterator[Row]:
    """The records of a JSON file: a list of objects, COCO's lists, or an object as pandas and trainers write it."""
    check_regular(file, MAX_RECORDS)
    try:
        content = json.loads(file.read_text(encoding, errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{file}: not JSON ({printable_line(error)[:100]})") from None
    if is_coco(content):
        content = list(coco_records(content))
    elif isinstance(content, dict) and content:
        content = _of_object(content)
    if not isinstance(content, list):
        raise Refused(f"{file}: give a JSON list of objects, each with an image, JSON lines, or COCO's lists")
    for each in content:
        yield each if isinstance(each, dict) else BadRow("is not a JSON object")


def _of_object(content: Record) -> object:
    """The records in one object: by column, by row, by picture, or in its only list; itself if there are none."""
    values = list(content.values())
    if all(isinstance(each, dict) for each in values):
        numbers = all(each and all(map(str.isdecimal, each)) for each in values)
        if _holds_image(content) or (numbers and not all(map(str.isdecimal, content))):
            # pandas' to_json(): {column: {row: value}}
            rows = dict.fromkeys(row for column in values for row in column)
            return [{name: column.get(row) for name, column in content.items()} for row in rows]
        if all(_holds_image(each) for each in values) and not any(map(looks_like_picture, content)):
            return values  # orient="index": {row: {column: value}}
        return [{"image": key, **value} for key, value in content.items()]
    if all(map(looks_like_picture, content)):
        return [{"image": key, "caption": value} for key, value in content.items()]
    if isinstance(columns := content.get("columns"), list) and isinstance(rows := content.get("data"), list):
        return [dict(zip(columns, row, strict=False)) if isinstance(row, list) else row for row in rows]
    if set(map(str.lower, content)) <= set(SPLITS) and all(isinstance(each, list) for each in values):
        rows = ((split, row) for split, each in content.items() for row in each)
        return [{"split": split, **row} if isinstance(row, dict) else row for split, row in rows]
    records = any(isinstance(each, dict) for each in content.get("images") or ())  # not a column, but a list of them
    if not records and all(isinstance(each, list) for each in values) and _holds_image(content):
        # {column: [value, ...]}
        longest = max(map(len, values))
        return [
            {name: column[row] if row < len(column) else None for name, column in content.items()}
            for row in range(longest)
        ]
    lists = [each for each in values if isinstance(each, list) and each and all(isinstance(row, dict) for row in each)]
    return lists[0] if len(lists) == 1 else content


def _holds_image(row: Record) -> bool:
    """Whether the names of these columns, or the values, are those of a picture."""
    return bool({plain_name(str(name)) for name in row} & set(ROLES["image"])) or any(
        map(looks_like_picture, row.values())
    )
