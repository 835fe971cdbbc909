from nasframe.pages.measured import table_of


def test_figures_are_spelled_by_their_names_and_what_is_missing_is_empty():
    figures = {
        "float32": {"test_accuracy": 0.5, "latency_ms": 0.25, "bytes": 2048.0},
        "guess": {"latency_ms": 1500},
    }
    assert table_of(figures) == (
        ["network", "test accuracy", "latency", "size"],
        [["float32", "50.00%", "0.25 ms", "2.0 KiB"], ["guess", "", "1.5 s", ""]],
    )
