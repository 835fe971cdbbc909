"""Draw the README's pictures from a finished run:  python docs/pictures.py RUN_DIR docs/images."""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

import nasframe
from nasframe.core import draw
from nasframe.recipe import open_run


def draw_cells(run_dir: Path, folder: Path) -> None:
    """The derived cells, one picture each."""
    recipe = nasframe.load_recipe(run_dir / "recipe.yaml")
    space = recipe.space(recipe.data().task)
    for cell, graph in space.graphs(open_run(run_dir).genotype).items():
        draw(graph).savefig(folder / f"{cell}_cell.png", dpi=160)


def draw_alphas(run_dir: Path, folder: Path, cell: str = "normal") -> None:
    """The weights of the candidates over the epochs, for each kept edge of a cell."""
    lines = (run_dir / "search" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    genotype = open_run(run_dir).genotype
    edges = [name for name in genotype.choices if name.startswith(f"{cell}_") and name.count("_") == 2]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(2, -(-len(edges) // 2), sharex=True, sharey=True)
    candidates = sorted({tag.split("/")[2] for tag in records[0] if tag.startswith(f"alphas/{edges[0]}/")})
    colors = {name: f"C{index}" for index, name in enumerate(candidates)}
    for edge, axis in zip(edges, axes.flat, strict=False):
        for name in candidates:
            values = [record[f"alphas/{edge}/{name}"] for record in records]
            kept = name in genotype[edge]
            axis.plot([record["step"] for record in records], values, color=colors[name],
                      linewidth=2.4 if kept else 1.1, alpha=1.0 if kept else 0.6, label=name)  # fmt: skip
        axis.set_title(f"{edge}: {', '.join(genotype[edge])}", fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(edges) :]:
        axis.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("softmax(alpha)", fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(folder / "alphas.png", dpi=130)


if __name__ == "__main__":
    run_dir, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    draw_cells(run_dir, folder)
    draw_alphas(run_dir, folder)
