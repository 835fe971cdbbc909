from nasframe.pages.by_class import shown_by_class


def _of(name, num, precision=0.5, recall=0.5, f1=0.5):
    return {"name": name, "num_examples": num, "precision": precision, "recall": recall, "f1": f1}


def test_the_matrix_has_what_was_right_on_its_diagonal():
    classes = [
        _of("cat", 4, None, 0.0, 0.0),
        _of("dog", 5, 0.5, 0.8, 8 / 13),
        _of("fox", 0, None, None, None),
    ]
    confusions = [
        {"of": "cat", "taken_for": "dog", "num_examples": 4},
        {"of": "dog", "taken_for": "fox", "num_examples": 1},
    ]
    shown = shown_by_class(classes, confusions)
    assert shown.rows == [
        ["cat", "4", "none", "0.0%", "0.0%"],
        ["dog", "5", "50.0%", "80.0%", "61.5%"],
        ["fox", "0", "none", "none", "none"],
    ]
    assert shown.names == ["cat", "dog", "fox"]
    assert shown.matrix == [
        ("cat", [(0, 0.0), (4, 1.0), (0, 0.0)]),
        ("dog", [(0, 0.0), (4, 0.8), (1, 0.2)]),
        ("fox", [(0, 0.0), (0, 0.0), (0, 0.0)]),
    ]


def test_of_many_classes_the_pairs_that_are_confused_most_often_are_told_instead():
    classes = [_of(str(index), 2) for index in range(40)]
    confusions = [
        {"of": str(index), "taken_for": str(index + 1), "num_examples": 40 - index} for index in range(39)
    ]
    shown = shown_by_class(classes, confusions)
    assert (shown.names, shown.matrix) == ([], [])
    assert shown.pairs[0] == ["0", "1", "40"]
    assert shown.pairs[-1] == ["9", "10", "31"]
    assert len(shown.rows) == 40


def test_where_there_are_no_classes_nothing_is_shown():
    assert shown_by_class([], []) is None
