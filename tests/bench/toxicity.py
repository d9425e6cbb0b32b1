"""Precision and recall of the lexical toxicity score at its operating point, per data set; speed and memory.

python tests/bench/toxicity.py [--data DIR] [--threshold T] [--markdown]

A text that could not be judged counts as not flagged in precision and recall, and among the rows. The false-positive
rate is of judged texts that are not toxic; data sets without labels hold ordinary requests and answers and are counted
as not toxic, which the two of red-team dialogues (hh) are only in part.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from monitor.model import Flags, Floats
from monitor.scorers.toxicity import ToxicitySettings, judge

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LABELLED = ("toxic_davidson", "moderation_openai", "toxic_multilingual_templates")
BENIGN = (
    *("general_halueval", "general_gpteacher_roleplay", "general_gpteacher_tooluse", "multimodel_vicuna_bench"),
    *("arena_hard_v01_gpt4", "math_gsm8k", "math_gsm8k_models", "factual_simpleqa", "graded_simpleqa_models"),
    *("grounded_halueval_qa", "refusal_xstest", "jailbreak_jbb", "chat_hh_harmless_turns", "feedback_hh_harmless"),
)
PUBLISHED = {"Perspective API": 0.787, "Llama Guard": 0.847, "OpenAI": 0.856}
"""Average precision on the whole of moderation_openai, as published."""


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def sets(folder: Path) -> Iterator[tuple[str, list[str], Flags]]:
    """Name, texts and which are toxic, of every data set, side, language and cut."""
    for name in LABELLED:
        found = rows(folder, name)
        for lang in sorted({row["label"].get("lang") or "en" for row in found}):
            part = [row for row in found if (row["label"].get("lang") or "en") == lang]
            yield (
                f"{name} {lang}",
                [row["prompt"] for row in part],
                np.array([row["label"]["toxic"] == 1 for row in part]),
            )
    for name in BENIGN:
        found = rows(folder, name)
        for side in ("prompt", "response"):
            texts: list[str] = [row[side] for row in found if row[side]]
            for cut in (None, 12):
                beginnings = texts if cut is None else [" ".join(text.split()[:cut]) for text in texts]
                label = f"{name} {side}{f', {cut} words' if cut else ''}"
                yield label, beginnings, np.zeros(len(texts), np.bool_)


def average_precision(score: Floats, toxic: Flags) -> float:
    """Mean over the toxic texts of the precision at their rank; ties in the order given."""
    ranked = toxic[np.argsort(-score, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def share(part: Flags, whole: Flags) -> str:
    return f"{(part & whole).sum() / whole.sum():.4f}" if whole.any() else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threshold", type=float, default=ToxicitySettings().threshold)
    parser.add_argument("--markdown", action="store_true", help="a table for the README")
    chosen = parser.parse_args()
    heads = ("data set", "rows", "toxic", "judged", "other language", "precision", "recall", "false positives")
    line = "| " + " | ".join(["{}"] * len(heads)) + " |" if chosen.markdown else "{:48}" + "{:>12} " * 3 + "{:>16}" * 4
    print(line.format(*heads))
    if chosen.markdown:
        print("|" + " --- |" * len(heads))
    size = seconds = 0.0
    for name, texts, toxic in sets(chosen.data):
        began = time.process_time()
        score, strange = judge(texts)
        seconds += time.process_time() - began
        size += sum(len(text.encode()) for text in texts)
        judged, flagged = ~np.isnan(score), score >= chosen.threshold
        measured = (share(toxic, flagged), share(flagged, toxic)) if toxic.any() else ("", "")
        counted = f"{toxic.mean():.3f}", f"{judged.mean():.4f}", f"{strange.mean():.4f}"
        print(line.format(name, len(texts), *counted, *measured, share(flagged, judged & ~toxic)))
        if name.startswith("moderation_openai"):
            precision = average_precision(np.nan_to_num(score), toxic)
    published = ", ".join(f"{name} {value}" for name, value in PUBLISHED.items())
    print(f"\naverage precision on moderation_openai: {precision:.3f} (published on the whole of it: {published})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{seconds / size * 1e9:.1f} us CPU for 1 kB of text; peak memory of this process {peak:.0f} MB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
