"""`ebjr-det convert`: sets and results in another form."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH
from ebjr_det.cli.printing import print_json

FORMS = ("coco", "yolo", "voc", "ultralytics")


@click.command()
@click.argument("source", type=PATH)
@click.argument("out", type=PATH)
@click.option("--to", type=click.Choice(FORMS), required=True, help="The form to write.")
@click.option("--annotations", type=PATH, help="The set that results are of; then SOURCE is results.")
@click.option("--images", type=PATH, help="Folder of the pictures of a COCO file.")
@click.option("--split", metavar="train|val|test", help="Split of a data.yaml or of VOC's lists.")
@click.option("--first-pixel", type=int, metavar="0|1", help="Of VOC's boxes: 1, the default, or 0.")
@click.option(
    "--class-ids",
    metavar="ids|from-0|from-1|coco-91|[from-1:]FILE",
    help="What class numbers in results are.",
)
@click.option("--image-ids", metavar="ids|files", help="What image numbers in results are.")
@AS_JSON
def convert(source: Path, out: Path, to: str, *, as_json: bool, **options: Any) -> None:
    """An annotated set, or results of a detector, in another form: COCO, YOLO, VOC, Ultralytics."""
    import ebjr_det
    from ebjr_det.reporting.notation import plural

    stated: Any = {name: value for name, value in options.items() if value is not None}
    done = ebjr_det.convert(source, out, to, **stated)
    if as_json:
        print_json({"path": str(done.path), "pictures": done.pictures, "boxes": done.boxes})
    else:
        objects, pictures = plural(done.boxes, "object"), plural(done.pictures, "picture")
        click.echo(f"{objects} in {pictures}: {done.path}")
