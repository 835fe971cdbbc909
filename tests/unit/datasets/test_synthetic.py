import pytest
import torch

from nasframe.datasets.synthetic import synthetic


def _all(split):
    return split.batch(torch.arange(len(split)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 7)])
def test_images_have_the_shape_and_number_that_were_asked_for(shape):
    channels, height, width = shape
    data = synthetic(num_train=10, num_test=6, num_classes=3, channels=channels, height=height, width=width)
    train, test = _all(data.train), _all(data.test)
    assert train.inputs.shape == (10, *shape)
    assert test.inputs.shape == (6, *shape)
    assert train.inputs.dtype == torch.uint8
    assert data.task.input_shape == shape
    assert data.task.num_outputs == len(data.class_names) == 3
    assert torch.bincount(train.targets).tolist() == [4, 3, 3]


def test_the_settings_decide_everything_and_the_global_random_state_nothing():
    torch.manual_seed(0)
    first = _all(synthetic(seed=1).test).inputs
    torch.manual_seed(1)
    assert torch.equal(first, _all(synthetic(seed=1).test).inputs)
    assert not torch.equal(first, _all(synthetic(seed=2).test).inputs)


def test_classes_can_be_learned_and_noise_makes_it_harder():
    def nearest_mean_accuracy(noise):
        data = synthetic(
            num_train=200, num_test=200, num_classes=5, channels=1, height=8, width=8, noise=noise
        )
        train, test = _all(data.train), _all(data.test)
        means = torch.stack([train.inputs[train.targets == k].float().mean(0) for k in range(5)])
        distance = (test.inputs.float()[:, None] - means[None]).square().flatten(2).sum(2)
        return (distance.argmin(1) == test.targets).float().mean().item()

    assert nearest_mean_accuracy(0.5) > 0.95
    assert 0.3 < nearest_mean_accuracy(6.0) < 0.9


def test_train_and_test_images_differ():
    data = synthetic(num_train=20, num_test=20)
    train, test = _all(data.train).inputs, _all(data.test).inputs
    assert not any(torch.equal(a, b) for a in train for b in test)
