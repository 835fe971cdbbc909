import pytest
import torch

from nasframe.recipe.devices import default_threads


@pytest.fixture
def eight_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("50000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("max 100000\n", 8),
        ("", 8),
        ("rubbish\n", 8),
    ],
)
def test_there_are_no_more_threads_than_the_container_may_use(eight_threads, tmp_path, quota, threads):
    (tmp_path / "cpu.max").write_text(quota)
    assert default_threads(tmp_path / "cpu.max") == threads


def test_without_a_container_there_are_as_many_threads_as_torch_takes(eight_threads, tmp_path):
    assert default_threads(tmp_path / "cpu.max") == 8


def test_the_variable_of_openmp_decides(eight_threads, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert default_threads(tmp_path / "cpu.max") == 8
