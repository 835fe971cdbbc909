import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from importlib import resources

import pytest

from nasframe.errors import FormatError
from nasframe.reports.html import Html
from nasframe.study.reading import load_study

HOSTILE = '<script>alert("1")</script> & "quoted"'
VOID = {"meta", "img", "br", "input"}


def _content():
    return {
        "name": "digits_darts",
        "verdict": "healthy: 1 of 6 edges of normal are skips at epoch 3",
        "metrics": {
            "test_accuracy": 0.98765,
            "test_loss": 0.04321,
            "parameters": 123456.0,
            "derived_cost": 2e6,
        },
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
            "search/derived_cost": [3e6, 2.5e6, 2e6],
            "retrain/lr": [0.025, 0.01, 0.001],
            "alphas/entropy": [0.69, 0.6, 0.4],
        },
        "parts": [
            {"name": "stem", "what": "stem", "shape": [16, 32, 32], "parameters": 432, "is_chosen": False},
            {
                "name": "cells.0",
                "what": "normal",
                "shape": [64, 32, 32],
                "parameters": 1000,
                "is_chosen": True,
            },
            {
                "name": "cells.1",
                "what": "normal",
                "shape": [64, 32, 32],
                "parameters": 1000,
                "is_chosen": True,
            },
        ],
        "health": {"verdict": "healthy: 1 of 6 edges of normal are skips at epoch 3", "left_out": {}},
        "tradeoff": {
            "cost": "flops",
            "unit": "",
            "quality": "score",
            "max_cost": 3e6,
            "points": [
                {"name": "evaluation 1", "cost": 1e6, "value": 0.5},
                {"name": "evaluation 2", "cost": 2e6, "value": 0.75},
            ],
        },
        "random": {"scores": [0.5, 0.75], "found": 0.75, "count": 1, "best": 0.5, "median": 0.5},
        "steps": {"search": 33, "retrain": 1000},
        "joules": {"search": 7200.0},
        "peak_bytes": 512 * 1024**2,
        "provenance": [
            {"path": "name", "value": "digits_darts", "origin": "digits_darts:12"},
            {"path": "seed", "value": 0, "origin": "default"},
            {"path": "search.trainer.epochs", "value": 3, "origin": "command line"},
        ],
        "seeds": [
            {"seed": 0, "valid_loss": 0.5, "test_accuracy": 0.9},
            {"seed": 1, "valid_loss": 0.25, "test_accuracy": 0.95},
        ],
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


def _scripts(text):
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


def _own_script():
    return resources.files("nasframe.pages").joinpath("play.js").read_text(encoding="utf-8")


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
        "digits_darts", "98.77%", "0.04321", "123,456", "1 min 5 s", "1 h 2 min", "400 ms", "1 h 3 min",
        "seed: 0", "2.13.0", "nasframe run recipes/digits_darts.yaml seed=0", '"normal_2"',
        "Architecture: |none~0|+<0>",
    ):  # fmt: skip
        assert page.says(words), words


def test_the_result_stands_first_in_one_sentence(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert page.says(
        "98.77% test accuracy with 123,456 parameters, found and trained in 1 h 3 min; the search is "
        "healthy: 1 of 6 edges of normal are skips at epoch 3."
    )


def test_the_network_is_a_strip_with_shapes_in_which_equal_parts_are_counted(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert page.says("stem 32 × 32 × 16 432 parameters")
    assert page.says("normal × 2 32 × 32 × 64 1,000 parameters")


def test_the_page_shows_how_each_class_is_told_the_worst_first(tmp_path):
    content = _content()
    content["confusion"] = {"classes": ["cat", "dog", "owl"], "counts": [[8, 0, 2], [1, 9, 0], [0, 0, 0]]}
    page = _Page(_write(tmp_path, content))
    # of 9 taken for a cat 8 are one, of 9 for a dog 9, of 2 for an owl none
    assert page.says("cat 10 88.9% 80.0% 84.2% owl (2) dog 10 100.0% 90.0% 94.7% cat (1)")
    assert page.says("owl 0 0.0% none 0.0%")
    assert page.says("cat 8 0 2 dog 1 9 0 owl 0 0 0")
    content["confusion"] = {
        "classes": [f"class {index}" for index in range(40)],
        "counts": [[int(index == other) for other in range(40)] for index in range(40)],
    }
    page = _Page(_write(tmp_path, content))
    assert page.says("class 39 1 100.0% 100.0% 100.0%")
    assert not page.says("class 38 class 39")  # a matrix that nobody could read


def test_the_page_shows_what_the_run_cost_and_how_random_architectures_do(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert page.says("search 1 min 5 s 33 2 Wh")
    assert page.says("retrain 1 h 2 min 1,000")
    assert page.says("Peak memory: 512 MiB")
    assert page.says("flops of the architecture 2,000,000")
    assert page.says("1 0.25 95.00%")
    assert page.says(
        "The best score is 0.75. Of 1 architecture drawn at random, the median is 0.5 (0.25 less) and the "
        "best 0.5."
    )
    assert page.says("evaluation 2: 0.75 at 2M")
    assert page.says("search: derived cost, flops")


def test_a_search_by_alphas_says_that_one_run_is_no_comparison_with_random_ones(tmp_path):
    content = _content()
    alone = "One run cannot tell whether its search is better than drawing architectures at random"
    assert not _Page(_write(tmp_path, content)).says(alone)
    del content["random"]
    text = _write(tmp_path, content)
    assert _Page(text).says(alone)
    (study,) = re.findall(r"<pre[^>]*>(name: against_random\n.*?)</pre>", text, re.DOTALL)
    (tmp_path / "study.yaml").write_text(study)
    (tmp_path / "recipe.yaml").write_text("name: small\ndata: synthetic\nspace: macro\ntrackers: []\n")
    found = load_study(tmp_path / "study.yaml", check=False).study
    assert found.budget.epochs == len(content["alphas"]["normal_2_0"]["skip_connect"])
    content["study"] = {"setting": "small", "method": "darts", "seed": 1}
    page = _Page(_write(tmp_path, content))
    assert not page.says(alone)
    assert page.says("A trial of a study: darts in the setting small, seed 1.")


def test_each_value_of_the_recipe_has_its_origin_and_defaults_stand_apart(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    assert page.says("search.trainer.epochs 3 command line")
    assert page.says("1 default seed 0")


def test_the_weights_of_all_epochs_are_there_to_be_played_and_the_last_ones_without_a_script(tmp_path):
    page = _Page(_write(tmp_path, _content()))
    frames = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-w")]
    assert frames == ["0.5 0.4 0.3", "0.5 0.6 0.7", "0.5 0.6 0.9", "0.5 0.4 0.1"]
    assert page.says("normal_2_0 .30 .70")
    assert ("div", "hidden", None) in page.attributes  # what only a script can use, it must show


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
    text = _write(tmp_path, _content())
    pictures = re.findall(
        r'<svg [^>]*role="img" aria-label="([^"]+)"[^>]*>\s*<title>([^<]+)</title><desc>([^<]+)', text
    )
    assert len(pictures) == text.count('role="img"') == 1 + 5 + 2 + 2
    assert all(label == description for label, _, description in pictures)
    assert any("c_{k-1} to 0: skip_connect" in description for _, _, description in pictures)
    for svg in re.findall(r"<svg [^>]*>", text):
        assert 'role="img"' in svg or 'aria-hidden="true"' in svg


def test_the_page_stands_alone(tmp_path):
    text = _write(tmp_path, _content())
    page = _Page(text)
    assert not {"link", "iframe", "object", "img", "base"} & set(page.tags)
    assert not any(name == "src" for _, name, _ in page.attributes)
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
    content["parts"].append(
        {"name": HOSTILE, "what": HOSTILE, "shape": [1], "parameters": 1, "is_chosen": True}
    )
    content["provenance"].append({"path": HOSTILE, "value": HOSTILE, "origin": HOSTILE})
    content["tradeoff"].update(cost=HOSTILE, unit=HOSTILE, quality=HOSTILE)
    content["tradeoff"]["points"][0]["name"] = HOSTILE
    content["health"] = {"verdict": HOSTILE, "first": HOSTILE, "left_out": {HOSTILE: HOSTILE}}
    content["notes"] = [HOSTILE]
    content["benchmark"] = {"name": HOSTILE, "accuracy": 0.9, "rank": 2, "count": 5, "percentile": 80.0}
    text = _write(tmp_path, content)
    assert _scripts(text) == [_own_script()]
    page = _Page(text)
    assert page.says(HOSTILE)
    assert page.tags.count("script") == 1
    assert not any(name.startswith("on") for _, name, _ in page.attributes)


def test_what_a_run_does_not_have_is_left_out(tmp_path):
    page = _Page(_write(tmp_path, {"name": "bare"}))
    assert page.says("bare")
    for words in (
        "Learning curves",
        "Weights of the candidates",
        "The network that was found",
        "Health",
        "What it cost",
        "Scores",
        "Quality over cost",
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


def test_a_browser_is_told_to_load_nothing_and_to_run_the_one_script_that_it_knows_by_hash(tmp_path):
    text = _write(tmp_path, _content())
    digest = base64.b64encode(hashlib.sha256(_scripts(text)[0].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert ("meta", "content", policy) in _Page(text).attributes
