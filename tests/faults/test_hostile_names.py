"""Names from outside stay text, from the data to the report."""

import html.parser
import re
from pathlib import Path

from PIL import Image

from nasframe import pages
from nasframe.recipe import load_recipe, run

CLASSES = ["<script>alert(1)<", '"); import os; os.mkdir("ran")  #', "${seed}{{ 7 * 7 }}", "$\\undefined{$"]


class _Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def test_a_search_over_classes_with_hostile_names_leaves_text_alone(tmp_path: Path) -> None:
    images = tmp_path / "images <i>&"
    for level, name in enumerate(CLASSES):
        (images / name).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (8, 8), (60 * level, 8 * index, 0)).save(images / name / f"{index}.png")
    (tmp_path / "x.yaml").write_text(
        f"# <script>alert(2)</script>\nname: tiny\ndata: {{type: image_folder, path: '{images}', size: 8}}\n"
        "space: {type: macro, channels: 2, stages: [1], features: 4}\n"
        "search: {trainer: {epochs: 1, batch_size: 4}}\n"
        "retrain: {trainer: {epochs: 1, batch_size: 4}}\n"
        "export: [torch_export]\n"
    )
    found = run(load_recipe(tmp_path / "x.yaml"), tmp_path / "run")
    page = found.report.read_text(encoding="utf-8")
    assert not _Tags(page).found & {"i", "iframe", "object", "link"}
    assert "images &lt;i&gt;&amp;" in page
    own = (Path(pages.__file__).parent / "play.js").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL | re.IGNORECASE) in ([], [own])
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and path.suffix not in (".yaml", ".json") and path != found.report:
            assert b"<script" not in path.read_bytes(), path
    assert not list(tmp_path.rglob("ran"))
