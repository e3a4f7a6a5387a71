"""Fine-tuning by sentence-transformers, run in its own environment and timed from outside of its own loop.

    BENCH-VENV/bin/python benchmarks/finetune_reference.py JOB.json

JOB.json holds `model` (a folder), `pairs` of texts, `batch_size`, `max_tokens`, `steps`, `warm_up`, `threads`
and `bf16`. The last line of output is JSON: CPU seconds of the steps after the warm-up, and how many examples
they took.

The trainer is sentence-transformers' own, with its multiple-negatives loss (Henderson et al.,
arXiv:1705.00652) and in-batch negatives, on the same encoder, texts and batch size as ours.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Train for a few steps and say what they cost."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from transformers import TrainerCallback

    torch.set_num_threads(job["threads"])
    model = SentenceTransformer(job["model"], device="cpu")
    model.max_seq_length = job["max_tokens"]
    size, steps = job["batch_size"], job["warm_up"] + job["steps"]
    needed = (job["pairs"] * (1 + size * steps // len(job["pairs"])))[: size * steps]
    data = Dataset.from_dict(
        {"anchor": [pair[0] for pair in needed], "positive": [pair[1] for pair in needed]}
    )
    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            max_steps=steps,
            bf16=job["bf16"],
            use_cpu=True,
            learning_rate=2e-5,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_num_workers=0,
        )
        loss = losses.MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]
        )
        trainer.train()
    seconds = marks[-1] - marks[job["warm_up"] - 1]
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "examples": size * job["steps"]}) + "\n")


if __name__ == "__main__":
    main()
