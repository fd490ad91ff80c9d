# SPDX-License-Identifier: Apache-2.0
"""Stage `accuracy`: the chapter's recipe to its end, once a seed. A row is a run: its first,
fifth and last epochs, and what `vgg eval` says of its last weights."""
import json

import rows
import trainer as trainers

KEEP = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "macro_f1", "seconds")


def one(trainer, args, precision, seed, left):
    flags = ["--epochs", args.recipe_epochs, "--seed", seed, *trainer.on(precision)]
    out, done, command = trainer.train(flags, left)
    try:
        table = trainers.epochs(out)
        picked = {str(int(row["epoch"])): {key: row[key] for key in KEEP}
                  for row in table if row["epoch"] in (1, 5, len(table))}
        judged = trainer.call("eval", out / "last", "--data", trainer.data,
                              *trainer.on(precision), "--format", "json",
                              limit=max(left - done.seconds, 1))
        figures = {"command": command, "seed": seed, "precision": precision,
                   "epochs": len(table), "wall_s": round(done.seconds, 2), "curve": picked,
                   "test_accuracy_curve": [row["test_accuracy"] for row in table],
                   "train_loss_curve": [row["train_loss"] for row in table]}
        if judged.why():
            raise judged.failure("vgg eval: ", **figures)
        if len(table) != args.recipe_epochs:
            raise rows.Failed(f"{len(table)} epochs, expected {args.recipe_epochs}", **figures)
        said = json.loads(judged.out)
        figures["eval"] = {key: said[key] for key in ("accuracy", "macro_f1", "loss")}
        return figures
    finally:
        trainers.drop(out)


def run(stage, args, trainer, memory):
    pairs = [(p, seed) for p in args.precisions[:1] for seed in args.seeds]
    if not args.quick:  # after the seeds, the other precisions once each
        pairs += [(p, args.seeds[0]) for p in args.precisions[1:]]
    stage.plan([f"{p}-seed-{seed}" for p, seed in pairs])
    for p, seed in pairs:
        stage.do(f"{p}-seed-{seed}", lambda left, p=p, s=seed: one(trainer, args, p, s, left))
