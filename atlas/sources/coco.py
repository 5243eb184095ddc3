"""COCO's annotations, one JSON file of images and annotations by number, as records of one picture each."""

from collections.abc import Iterator, Mapping

from atlas.formatting import Record

_NAMES = ("captions_", "instances_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")


def is_coco(content: object) -> bool:
    """Whether a JSON file's content lists images, and annotations of them, as COCO and its descendants do."""
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in ("images", "annotations"))


def is_coco_name(path: str) -> bool:
    """Whether a file is named as COCO's are: captions_val2017.json, instances_train.json, _annotations.coco.json."""
    name = path.rpartition("/")[2].lower()
    return name.endswith(".json") and (name.startswith(_NAMES) or "coco" in name)


def coco_records(content: Mapping[str, list[object]]) -> Iterator[Record | object]:
    """One record an image: its file, all its captions, and its class if all its annotations name one.

    An annotation of an image that is not listed gets a record of its own, without a picture: it is a reject.
    """
    classes = {str(each.get("id")): each.get("name") for each in _mappings(content.get("categories", []))}
    said: dict[str, list[Mapping[str, object]]] = {}  # by the number of the image, as text: some writers quote it
    for each in _mappings(content["annotations"]):
        said.setdefault(str(each.get("image_id")), []).append(each)
    for image in content["images"]:
        if not isinstance(image, Mapping):
            yield image
            continue
        about = said.pop(str(image.get("id")), [])
        named = dict.fromkeys(str(classes.get(str(each.get("category_id"))) or "") for each in about)
        labels = [name for name in named if name]
        captions = [each["caption"] for each in about if each.get("caption")]
        yield {"image": image.get("file_name"), "caption": captions, "label": labels[0] if len(labels) == 1 else ""}
    for number, lost in said.items():
        captions = [each["caption"] for each in lost if each.get("caption")]
        yield {"image": None, "caption": captions or [f"annotations of image {number}"], "label": ""}


def _mappings(rows: object) -> list[Mapping[str, object]]:
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []
