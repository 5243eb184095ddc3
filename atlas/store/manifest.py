"""The content of store.json, typed."""

from typing import NotRequired, TypedDict

from atlas.formatting import Record

STORE_FORMAT = 1


class Request(TypedDict):
    """What a collection was asked for; equal requests over equal sources give identical Stores."""

    model: Record  # `atlas.model.description.ModelDescription`; this module does not import the models
    sources: list[str]
    seed: int
    thumb: int


class Manifest(TypedDict):
    """The content of store.json. A generation is the rows and shards that one run, or one --append, added."""

    format: int
    complete: bool
    request: Request
    listing: str
    generations: list[dict[str, int]]
    versions: NotRequired[dict[str, str]]
    shards: NotRequired[dict[str, str]]
