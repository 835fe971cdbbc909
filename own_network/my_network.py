from torch import nn

from nasframe.core import Task, networks


@networks.register("my_network")
def my_network(task: Task) -> nn.Module:
    """Two convolutions and a classifier."""
    return nn.Sequential(
        nn.Conv2d(task.input_shape[0], 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, task.num_outputs),
    )
