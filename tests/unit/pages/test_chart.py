import pytest

from nasframe.pages.chart import HEIGHT, WIDTH, Point, chart, front_of, scatter, thinned


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


def test_a_chart_of_a_constant_zero_begins_at_zero():
    drawn = chart("x", {"a": [0.0, 0.0]}, {"a": 0})
    assert {label for _, label in drawn.y_ticks} >= {"0", "1"}
    assert not any(label.startswith("-") for _, label in drawn.y_ticks)


def test_a_long_curve_keeps_its_ends_and_no_more_points_than_can_be_seen():
    drawn = chart("x", {"a": [float(index) for index in range(10_000)]}, {"a": 0})
    points = _points(drawn.lines[0].paths[0])
    assert len(points) <= 300
    assert points[0][1] - points[-1][1] == pytest.approx(9_999 / 10_000 * (HEIGHT - 34), abs=0.2)


def test_thinning_keeps_what_is_few_and_spreads_what_is_many():
    assert thinned([1, 2, 3], 5) == [1, 2, 3]
    assert thinned(range(101), 5) == [0, 25, 50, 75, 100]


def test_the_front_has_those_that_no_other_one_beats_in_both_figures():
    points = [
        Point(name, x, y) for name, x, y in (("a", 1, 1), ("b", 2, 3), ("c", 3, 2), ("d", 2, 1), ("e", 4, 4))
    ]
    beaten = {
        p.name for p in points for q in points if q.x <= p.x and q.y >= p.y and (q.x, q.y) != (p.x, p.y)
    }
    assert beaten == {"c", "d"}
    assert [each.name for each in front_of(points)] == ["a", "b", "e"]


def test_a_scatter_shows_each_point_the_limit_and_the_strong_one_on_top():
    drawn = scatter(
        "accuracy", "flops", [Point("best", 2e6, 0.9, strong=True), Point("other", 1e6, 0.5)], (3e6, "budget")
    )
    assert [dot.name for dot in drawn.dots] == ["other", "best"]
    other, best = drawn.dots
    assert best.x > other.x
    assert best.y < other.y
    assert drawn.mark[0] > best.x
    assert {"1M", "2M", "3M"} <= {label for _, label in drawn.x_ticks}
    assert all(0 <= dot.x <= WIDTH and 0 <= dot.y <= HEIGHT for dot in drawn.dots)
    assert scatter("x", "y", []) is None
