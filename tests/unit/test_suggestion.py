"""What is advised for a name that there is not."""

import pytest

from nasframe.suggestion import did_you_mean, nearest

TRAINER = ["batch_size", "chunks", "epochs", "max_grad_norm", "max_steps", "optimizer", "precision"]


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("epohcs", TRAINER, "epochs"),
        ("batchsize", TRAINER, "batch_size"),
        ("max_epochs", TRAINER, "epochs"),
        ("image_size", ["path", "size", "test_fraction"], "size"),
        ("optim", TRAINER, "optimizer"),
        ("bs", TRAINER, "batch_size"),
        ("ops", ["cells", "nodes", "operations"], "operations"),
        ("learning_rate", ["lr", "momentum", "nesterov"], "lr"),
        ("wd", ["dampening", "weight_decay"], "weight_decay"),
        ("darts", ["darts_bilevel", "proxyless"], "darts_bilevel"),
    ],
)
def test_a_misspelling_and_another_length_of_a_name_find_it(word: str, names: list[str], meant: str) -> None:
    assert nearest(word, names) == meant
    assert did_you_mean(word, names) == f"did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("gpu", ["auto", "cpu", "cuda", "mps"]),
        ("layers", ["cells", "channels", "nodes"]),
        ("epochs", ["search", "space"]),
        ("", ["search"]),
        ("x", []),
    ],
)
def test_what_is_another_word_is_not_guessed_at(word: str, names: list[str]) -> None:
    assert nearest(word, names) is None
    assert did_you_mean(word, names) == ""
