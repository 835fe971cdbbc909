"""A retraining by nasframe against a plain loop of PyTorch: the same network, budget and settings.

    python benchmarks/retraining.py --data ~/data/cifar10 --images 4000 --epochs 6 --seeds 0 1 2

Two networks: a ResNet-18 of small images, and the cells of DARTS_V2 (Liu et al. 2019), both at reduced width.
Both loops have crop and flip, SGD with momentum, a cosine and clipping; initial weights are the same, the
orders of the batches are not. Accuracy is that on the first --test-images test images. `--speed` lets both
loops take steps in turn in one process and measures processor time.

The result is one JSON file. What stands in it already is not computed again, so that the script goes on where
it was stopped.
"""

import argparse
import copy
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

import nasframe
from measuring import machine, write_json
from nasframe.core import (
    Checkpoints,
    Dataset,
    Job,
    Model,
    Subset,
    augmentations,
    derived,
    networks,
    objectives,
    schedules,
)

LR, MOMENTUM, DECAY, CLIP, BATCH, PADDING = 0.05, 0.9, 5e-4, 5.0, 64, 4
DARTS_V2: Final = """Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""


@dataclass(frozen=True)
class Case:
    """What both loops train.

    Attributes:
        name: Of the network.
        channels: Its width.
        data: What it learns from.
        epochs: Passes.
        seed: Of weights and batches.
    """

    name: str
    channels: int
    data: Dataset
    epochs: int
    seed: int

    def network(self) -> Model:
        torch.manual_seed(self.seed)
        if self.name == "resnet18":
            return Model(networks["resnet"](self.data.task, channels=self.channels))
        space = nasframe.registries["spaces"]["darts"](self.data.task, channels=self.channels, cells=5)
        return derived(space, nasframe.Genotype.from_darts(DARTS_V2))

    def steps(self) -> int:
        return self.epochs * (len(self.data.train) // BATCH)


Hear = Callable[..., None]


def by_nasframe(case: Case, hear: Hear = lambda *told: None) -> nn.Module:
    """The trainer, as a recipe's retraining uses it."""
    trainer = nasframe.registries["trainers"]["standard"](
        epochs=case.epochs,
        batch_size=BATCH,
        optimizer=nasframe.registries["optimizers"].component(
            "sgd", lr=LR, momentum=MOMENTUM, weight_decay=DECAY
        ),
        schedule=schedules.component("cosine"),
        max_grad_norm=CLIP,
    )
    model = case.network()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            stage="retrain",
            seed=case.seed,
            device=torch.device("cpu"),
            model=model,
            objective=objectives["cross_entropy"](),
            make_algorithm=nasframe.registries["algorithms"]["weights_only"],
            train=case.data.train,
            valid=Subset(case.data.train, torch.arange(0)),
            preprocess=case.data.preprocess,
            augment=[augmentations["crop"](padding=PADDING), augmentations["flip"]()],
            describe=lambda record: record,
            start_tracking=lambda start: lambda record: None,
            checkpoints=Checkpoints(Path(folder)),
            progress=hear,
        )
        trainer.fit(job)
    return model


def plain_steps(case: Case) -> Iterator[nn.Module]:
    """The same by hand; the network after each step."""
    network = copy.deepcopy(case.network().network).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(case.seed + 1000)
    whole = case.data.train.batch(torch.arange(len(case.data.train)))
    mean, std = (torch.tensor(each)[:, None, None] for each in _statistics(case.data))
    for epoch in range(case.epochs):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 + math.cos(math.pi * epoch / case.epochs)) / 2
        order = torch.randperm(len(whole), generator=generator)
        for index in range(len(order) // BATCH):
            chosen = order[index * BATCH : (index + 1) * BATCH]
            images = whole.inputs[chosen].float() / 255
            padded = functional.pad(images, (PADDING,) * 4)
            places = torch.randint(2 * PADDING + 1, (2, BATCH), generator=generator).tolist()
            size = images.shape[2]
            crops = [each[:, y : y + size, x : x + size] for each, y, x in zip(padded, *places, strict=True)]
            images = torch.stack(crops)
            flipped = torch.rand(BATCH, generator=generator) < 0.5
            images[flipped] = images[flipped].flip(3)
            loss = functional.cross_entropy(network((images - mean) / std), whole.targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            yield network


def by_hand(case: Case) -> nn.Module:
    """The network after all steps of the plain loop."""
    *_, network = plain_steps(case)
    return network


def accuracy(network: nn.Module, data: Dataset) -> float:
    """Share of the test images that are told right."""
    network.eval()
    right = 0
    with torch.no_grad():
        for indices in torch.arange(len(data.test)).split(250):
            batch = data.test.batch(indices)
            outputs = network(data.preprocess.normalize(data.preprocess.scale(batch.inputs)))
            right += int((outputs.argmax(1) == batch.targets).sum())
    return right / len(data.test)


def speed(case: Case, warmup: int = 3) -> dict[str, list[float]]:
    """Processor seconds of steps of both, which take turns."""
    seconds: dict[str, list[float]] = {"nasframe": [], "plain": []}
    plain, last = plain_steps(case), time.process_time()

    def hear(*told: Any) -> None:
        nonlocal last
        heard = time.process_time()
        next(plain, None)
        done = time.process_time()
        seconds["nasframe"].append(heard - last)
        seconds["plain"].append(done - heard)
        last = time.process_time()

    by_nasframe(case, hear)
    return {name: each[warmup:] for name, each in seconds.items()}


def _statistics(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    preprocess: Any = data.preprocess
    return preprocess.mean, preprocess.std


def _commit() -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True)
    return told.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, write after each part, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10 as Parquet files")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--test-images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=["resnet18", "darts_v2"])
    parser.add_argument("--speed", type=int, default=0, metavar="STEPS", help="only measure so many steps")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "retraining.json")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    settings = {name: getattr(options, name) for name in ("images", "test_images", "epochs", "channels")}
    data = nasframe.registries["datasets"]["cifar10"](
        path=options.data, train_limit=options.images, test_limit=options.test_images
    )
    found = json.loads(options.result.read_text()) if options.result.exists() else {"rows": [], "speed": []}
    found["environment"] = machine()

    def write(part: str, row: dict[str, Any]) -> None:
        found[part].append({**settings, **row, "commit": _commit()})
        write_json(options.result, found)
        print(part, row, flush=True)

    for name in options.networks:
        if options.speed:
            epochs = -(-options.speed // (options.images // BATCH))
            times = speed(Case(name, options.channels, data, epochs, 0))
            medians = {who: statistics.median(each) for who, each in times.items()}
            least = {who: min(each) for who, each in times.items()}
            ratios = [one / other for one, other in zip(*times.values(), strict=True)]
            row = {
                "network": name,
                "epochs": epochs,
                "steps": len(ratios),
                "median_seconds": medians,
                "least_seconds": least,
            }
            write("speed", {**row, "median_ratio": statistics.median(ratios)})
            continue
        for seed in options.seeds:
            for who, train in (("nasframe", by_nasframe), ("plain", by_hand)):
                key = {"network": name, "seed": seed, "by": who}
                if any({**key, **settings}.items() <= row.items() for row in found["rows"]):
                    continue
                case = Case(name, options.channels, data, options.epochs, seed)
                started = time.process_time()
                network = train(case)
                seconds = time.process_time() - started
                write("rows", {**key, "test_accuracy": accuracy(network, data), "processor_seconds": seconds})
    for name in options.networks:
        of = {
            who: [
                row["test_accuracy"]
                for row in found["rows"]
                if {"network": name, "by": who, **settings}.items() <= row.items()
            ]
            for who in ("nasframe", "plain")
        }
        for who, each in of.items():
            if len(each) > 1:
                print(f"{name}, {who}: {statistics.mean(each):.2%} ± {statistics.stdev(each):.2%}")


if __name__ == "__main__":
    main()
