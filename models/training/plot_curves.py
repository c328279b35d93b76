#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws results/curves.svg from the curves in results/*.json (needs matplotlib)."""

import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  the backend must be chosen first


def draw(axes, record):
    points = record["curve"]
    axes.plot([p["tokens"] / 1e6 for p in points], [p["bpb"] for p in points], label=record["name"])


def main():
    results = pathlib.Path(__file__).resolve().parent / "results"
    titles = {"recipes": "Ten recipes", "teachers": "Teachers and student", "rounds": "Distillation"}
    figure, panels = plt.subplots(1, 3, figsize=(15, 5))
    for axes, (stem, title) in zip(panels, titles.items()):
        for record in json.loads((results / f"{stem}.json").read_text()):
            draw(axes, record)
        axes.set(title=title, xlabel="million tokens", ylabel="bits per byte, tinystories_valid")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylim(0.75, 1.3)
    panels[1].set_ylim(0.73, 1.1)
    figure.tight_layout()
    plt.rcParams |= {"svg.hashsalt": "trireme", "svg.fonttype": "none"}
    figure.savefig(results / "curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
