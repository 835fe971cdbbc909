from nasframe.pages.curve import by_figure, frames_of, heat_maps


def test_curves_of_one_figure_belong_together():
    curves = {
        "search/train_loss": [2.0],
        "search/valid_loss": [3.0],
        "search/lr": [0.1],
        "health/skip_share/normal": [0.0],
    }
    assert by_figure(curves) == {
        "search: loss": {"train": [2.0], "valid": [3.0]},
        "search: lr": {"": [0.1]},
        "health: skip share": {"normal": [0.0]},
    }


def test_choices_of_one_kind_with_candidates_of_the_same_sort_share_a_table():
    alphas = {
        "normal_2_0": {"a": [0.2], "b": [0.8]},
        "reduce_2_0": {"a": [0.5], "b": [0.5]},
        "normal_3_0": {"a": [0.6], "b": [0.3], "c": [0.1]},
        "normal_4_0": {"x": [1.0]},
    }
    maps = heat_maps(alphas, frames_of(alphas))
    assert [(each.candidates, [choice for choice, _ in each.rows]) for each in maps] == [
        (["a", "b", "c"], ["normal_2_0", "normal_3_0"]),
        (["a", "b"], ["reduce_2_0"]),
        (["x"], ["normal_4_0"]),
    ]
    (first, second), *_ = (each.rows for each in maps)
    assert [weight and weight.last for weight in first[1]] == ["0.20", "0.80", None]
    assert [weight.is_top for weight in second[1]] == [True, False, False]
    assert maps[0].most == 0.8


def test_a_candidate_that_was_pruned_has_no_weight_from_then_on():
    ((_, (pruned, kept)),) = heat_maps({"c": {"a": [0.4, None], "b": [0.6, 1.0]}}, [1, 2])[0].rows
    assert (pruned.frames, pruned.last, pruned.is_top) == ("0.4 -", "", False)
    assert (kept.frames, kept.last, kept.is_top) == ("0.6 1", "1.00", True)


def test_of_many_epochs_a_hundred_are_played():
    frames = frames_of({"c": {"a": [0.5] * 1000}})
    assert len(frames) == 100
    assert (frames[0], frames[-1]) == (1, 1000)


def test_what_the_architecture_keeps_is_marked_where_it_is_not_the_strongest():
    alphas = {"layer_0": {"none": [0.6], "conv": [0.4]}, "layer_1": {"none": [0.2], "conv": [0.8]}}
    rows = dict(heat_maps(alphas, [1], {"layer_0": ["conv"]})[0].rows)
    assert [(weight.is_top, weight.is_kept) for weight in rows["layer_0"]] == [(True, False), (False, True)]
    assert not any(weight.is_kept for weight in rows["layer_1"])
