import json
import re
import time
from html.parser import HTMLParser

import pytest

from nasframe.errors import FormatError
from nasframe.reports._chart import HEIGHT, WIDTH, chart
from nasframe.reports.html import Html

HOSTILE = '<script>alert("1")</script> & "quoted"'
VOID = {"meta", "img", "br"}


def _content():
    return {
        "name": "digits_darts",
        "metrics": {"test_accuracy": 0.98765, "test_loss": 0.04321, "parameters": 123456.0},
        "architecture": "|none~0|+<0>",
        "genotype": {"format": "nasframe.genotype", "version": 1, "choices": {"normal_2": ["0", "1"]}},
        "graphs": {
            "normal": {
                "title": "normal cell",
                "nodes": ["c_{k-2}", "c_{k-1}", "0", "c_{k}"],
                "edges": [
                    ["c_{k-2}", "0", "sep_conv_3x3"],
                    ["c_{k-1}", "0", "skip_connect"],
                    ["0", "c_{k}", ""],
                ],
            }
        },
        "alphas": {
            "normal_2_0": {"skip_connect": [0.5, 0.4, 0.3], "sep_conv_3x3": [0.5, 0.6, 0.7]},
            "normal_2_1": {"skip_connect": [0.5, 0.6, 0.9], "sep_conv_3x3": [0.5, 0.4, 0.1]},
        },
        "curves": {
            "search/train_loss": [2.0, None, 1.0],
            "search/valid_loss": [2.1, 1.9, 1.5],
            "search/valid_accuracy": [0.2, 0.5, 0.6],
            "retrain/lr": [0.025, 0.01, 0.001],
            "alphas/entropy": [0.69, 0.6, 0.4],
        },
        "seconds": {"search": 65.2, "retrain": 3725.0, "report": 0.4},
        "environment": {"torch": "2.13.0", "device": "cpu", "command": ["nasframe", "run"]},
        "recipe": "name: digits_darts\nseed: 0\n",
        "command": "nasframe run recipes/digits_darts.yaml seed=0",
    }


def _write(folder, content):
    (folder / "report.json").write_text(json.dumps(content))
    path = Html().write(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collects text and attributes, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def says(self, words):
        return words in " ".join(" ".join(self.text).split())


def test_the_page_shows_figures_time_recipe_environment_and_command(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    for words in (
        "digits_darts", "98.77%", "0.04321", "123,456", "1 min 5 s", "1 h 2 min", "0.4 s", "1 h 3 min",
        "seed: 0", "2.13.0", "nasframe run recipes/digits_darts.yaml seed=0", '"normal_2"',
        "Architecture: |none~0|+<0>",
    ):  # fmt: skip
        assert page.says(words), words


def test_each_choice_has_a_chart_that_names_its_strongest_candidate(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert page.says("normal_2_0: sep_conv_3x3 0.70")
    assert page.says("normal_2_1: skip_connect 0.90")


def test_curves_of_one_figure_share_a_chart(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    labels = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    loss = "search: loss over the epochs: train from 2 to 1, valid from 2.1 to 1.5"
    assert loss in labels
    assert sum("search: loss" in label for label in labels) == 1
    assert any(label.startswith("retrain: lr over the epochs") for label in labels)


def test_every_picture_has_words_for_those_who_do_not_see_it(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    pictures = sum(value == "img" for _, name, value in page.attributes if name == "role")
    words = [value for _, name, value in page.attributes if name == "aria-label"]
    assert pictures == len(words) == 1 + 4 + 2
    assert any("c_{k-1} to 0: skip_connect" in each for each in words)


def test_the_page_stands_alone(tmp_path):
    text = _write(tmp_path, _content())
    page = _Page(text)
    assert not {"script", "link", "iframe", "object", "img", "base"} & set(page.tags)
    loading = [v for _, name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value.startswith("#") for value in loading)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert ("meta", "name", "viewport") in page.attributes


def test_no_two_elements_have_one_id_with_another_content(tmp_path):
    content = _content()
    content["graphs"]["reduce"] = {**content["graphs"]["normal"], "title": "reduction cell"}
    text = _write(tmp_path, content)
    by_id = {}
    for element, name in re.findall(r'(<(?:path|clipPath|g)\s[^>]*?id="([^"]+)"[^>]*>)', text):
        by_id.setdefault(name, set()).add(re.sub(r"\s+", " ", element))
    assert all(len(elements) == 1 for elements in by_id.values())


def test_everything_is_escaped(tmp_path):
    content = _content()
    for key in ("name", "verdict", "architecture", "recipe", "command"):
        content[key] = HOSTILE
    content["metrics"][HOSTILE] = HOSTILE
    content["seconds"][HOSTILE] = 1.0
    content["environment"][HOSTILE] = HOSTILE
    content["genotype"]["choices"][HOSTILE] = [HOSTILE]
    content["alphas"][HOSTILE] = {HOSTILE: [0.1, 0.2]}
    content["curves"][f"search/{HOSTILE}"] = [1.0, 2.0]
    content["graphs"][HOSTILE] = {
        "title": HOSTILE,
        "nodes": ["a", HOSTILE],
        "edges": [["a", HOSTILE, HOSTILE]],
    }
    text = _write(tmp_path, content)
    assert "<script" not in text
    page = _Page(text)
    assert page.says(HOSTILE)
    assert "script" not in page.tags


def test_what_a_run_does_not_have_is_left_out(tmp_path):
    page = _Page(_write(tmp_path, {"name": "bare"}))
    assert page.says("bare")
    for words in (
        "Learning curves",
        "Weights of the candidates",
        "Time",
        "Environment",
        "Do it again",
        "Architecture",
    ):
        assert not page.says(words)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"metrics": {}}'])
def test_a_report_that_is_absent_or_broken_is_refused_and_named(tmp_path, text):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(FormatError, match=r"report\.json: must be"):
        Html().write(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"seconds": {"search": "long"}},
        {"seconds": {"search": 1e308, "retrain": 1e308}},
        {"metrics": []},
        {"alphas": {"a": {"x": ["0.5"]}}},
        {"curves": {"a/b": [1e308, -1e308]}},
        {"curves": {"a": {"b": 1}}},
        {"graphs": {"g": {"title": "t", "nodes": ["a"], "edges": [["a", "z", ""]]}}},
        {"benchmark": {"name": "x"}},
    ],
    ids=lambda content: json.dumps(content)[:50],
)
def test_parts_that_no_run_leaves_are_refused_and_named(tmp_path, content):
    with pytest.raises(FormatError, match=r"report\.json: must be what a finished run leaves"):
        _write(tmp_path, {"name": "x", **content})


@pytest.mark.parametrize("text", ['{"name": "a", "name": "b"}', '{"name": "a", "x": NaN}', "[" * 10**6])
def test_a_report_that_is_no_bounded_json_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(FormatError, match=r"report\.json: must be JSON"):
        Html().write(tmp_path)


@pytest.mark.parametrize(("count", "length"), [(5000, 1), (2, 200_000)])
def test_a_graph_that_nobody_could_read_is_told_in_words(tmp_path, count, length):
    nodes = [f"{index:0{length}d}" for index in range(count)]
    graph = {"title": "large", "nodes": nodes, "edges": [[nodes[0], nodes[1], ""]]}
    started = time.process_time()
    page = _Page(_write(tmp_path, {"name": "x", "graphs": {"g": graph}}))
    assert time.process_time() - started < 5
    assert page.says(f"large: {count} nodes and 1 edges, too large to be drawn")


def test_a_browser_is_told_to_run_and_load_nothing(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def _points(path):
    return [tuple(float(value) for value in point.split(",")) for point in path.split()]


def test_a_chart_places_values_in_proportion_between_its_ticks():
    drawn = chart("x", {"a": [0.0, 5.0, 10.0]}, {"a": 0})
    (first, middle, last) = _points(drawn.lines[0].paths[0])
    assert [label for _, label in drawn.x_ticks] == ["1", "2", "3"] or drawn.x_ticks[-1][1] == "3"
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.1)
    assert first[1] > last[1]  # larger is higher up
    places = {label: place for place, label in drawn.y_ticks}
    assert places["0"] == first[1]
    assert places["10"] == last[1]


def test_what_is_not_measured_each_epoch_is_joined():
    drawn = chart("x", {"a": [None, 2.0, None, 4.0]}, {"a": 0}, joined=True)
    assert [len(_points(path)) for path in drawn.lines[0].paths] == [2]


def test_a_chart_breaks_where_there_is_no_number():
    drawn = chart("x", {"a": [1.0, 2.0, None, None, 3.0, None]}, {"a": 0})
    assert [len(set(_points(path))) for path in drawn.lines[0].paths] == [2, 1]
    assert len(_points(drawn.lines[0].paths[1])) == 2  # a line of no length, which round ends make a dot
    assert drawn.lines[0].end == _points(drawn.lines[0].paths[1])[0]


def test_there_is_no_chart_without_a_number():
    assert chart("x", {}, {}) is None
    assert chart("x", {"a": [None], "b": []}, {"a": 0, "b": 1}) is None


@pytest.mark.parametrize("values", [[0.0], [7.0], [-3.0] * 4, [1e-9, 1e9], [1e-12, 2e-12], list(range(600))])
def test_a_chart_of_any_values_stays_within_its_box(values):
    drawn = chart("x", {"a": values}, {"a": 0})
    for x, y in _points(drawn.lines[0].paths[0]):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert [x for x, _ in drawn.x_ticks] == sorted({x for x, _ in drawn.x_ticks})
    assert drawn.x_ticks[-1][1] == str(max(2, len(values)))
