"""What embedding costs: `python tests/bench/embedding.py [--shared] [--exchanges 128] [--threads 1 2]`.

The stage (`Embedding.score`: distinct texts, tokens, batches, forward, unit length, all signals) against the model's
own forward pass over the same batches, already tokenised, and against `SentenceTransformer.encode` at its defaults
over the same texts, repeated ones included. Each time is the least of RUNS, taken in turn: CPU seconds with one thread,
so that neighbours do not count, wall-clock seconds with more, which need a machine of their own. With `--shared` the
texts are those kept beside a checkout, else made-up ones.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from monitor.model import Transcripts
from monitor.scorers import encoder as encoder_module
from monitor.scorers.embedding import Embedding, EmbeddingSettings
from monitor.scorers.encoder import Encoder, locate

RUNS = 2
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
_OPENINGS = ("Please", "How", "Why", "When", "What", "Could", "Where", "Explain", "Tell", "Is", "Which", "Who")
_WORDS = re.findall(
    r"\w+",
    """the a of to in is you that it for on are with as be this have from or by not your can will we an all order
    account payment password delivery address invoice refund customer service number email phone website support request
    product price size color shipping return days week month year time home city train flight hotel weather garden
    kitchen recipe sugar butter oven water bread music guitar movie history science biology physics energy light planet
    computer software function variable server database network error message update install version language
    translation meaning sentence paragraph essay story character first second before after while because however
    therefore although usually never always quickly carefully large small different important available possible""",
)
_WEIGHT = """
import json, pathlib, time
def resident():
    (line,) = (l for l in pathlib.Path('/proc/self/status').read_text().splitlines() if l.startswith('VmRSS'))
    return int(line.split()[1]) / 1024
from monitor.model import Transcripts
from monitor.scorers.embedding import Embedding, EmbeddingSettings
steps = [('before', 0.0, resident())]
def step(name, work):
    begin = time.perf_counter()
    made = work()
    steps.append((name, time.perf_counter() - begin, resident()))
    return made
def imports():
    import sentence_transformers
step('import', imports)
scorer = step('load', lambda: Embedding(EmbeddingSettings(device='cpu')))
prompts, responses = zip(*((f'{i} what is it about', f'{i} ' + 'word and word ' * 8 * i) for i in range(32)))
said = Transcripts.load([prompts, responses, [None] * 32])
step('first slice', lambda: scorer.score(said))
step('third slice', lambda: [scorer.score(said) for _ in range(2)])
print(json.dumps(steps))
"""


def made_up(rng: np.random.Generator, words: int) -> str:
    """About so many words in sentences of 6 to 20; frequent words come first (Zipf)."""
    found: list[str] = []
    while len(found) < words:
        chosen = [_WORDS[i] for i in np.minimum(rng.zipf(1.2, int(rng.integers(6, 20))) - 1, len(_WORDS) - 1)]
        chosen[0] = str(rng.choice(_OPENINGS))
        chosen[-1] += "."
        found += chosen
    return " ".join(found)


def made_up_transcripts(count: int) -> Transcripts:
    """One prompt in ten is asked again, a third has contexts."""
    rng = np.random.default_rng(0)
    prompts = [made_up(rng, int(rng.lognormal(3, 0.8)) + 3) for _ in range(count)]
    prompts = [prompts[0] if rng.random() < 0.1 else prompt for prompt in prompts]
    responses = [made_up(rng, int(rng.lognormal(4.3, 0.8)) + 3) for _ in range(count)]
    return Transcripts.load((prompts, responses, [[made_up(rng, 150)] if i % 3 == 0 else None for i in range(count)]))


def shared_transcripts(count: int) -> Transcripts:
    rows = []
    for name in ("general_halueval", "general_gpteacher_roleplay", "feedback_hh_harmless", "grounded_halueval_qa"):
        with gzip.open(SHARED / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows += [(row["prompt"], row["response"], row["context"]) for row in map(json.loads, file)]
    picked = np.random.default_rng(0).permutation(len(rows))[:count]
    return Transcripts.load(list(zip(*(rows[i] for i in picked), strict=True)))


def clock() -> float:
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def best(*works: Callable[[], object]) -> list[float]:
    """The least seconds of each, taken in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(RUNS):
        for work, found in zip(works, times, strict=True):
            begin = clock()
            work()
            found.append(clock() - begin)
    return [min(found) for found in times]


class Recording(Encoder):
    """Keeps the texts and the batches that the model was given."""

    def record(self) -> None:
        self.texts: list[str] = []
        self.batches: list[dict[str, Any]] = []

    def _encode(self, texts: list[str]) -> Any:
        self.texts += texts
        return super()._encode(texts)

    def _forward(self, batch: dict[str, Any]) -> Any:
        self.batches.append(dict(batch))
        return super()._forward(batch)


def recorded(transcripts: Transcripts) -> Recording:
    """The encoder after one call of the stage."""
    scorer = Embedding(EmbeddingSettings(device="cpu"))
    recording = Recording(locate("bundled"), "cpu")
    recording.record()
    scorer._encoder = recording
    scorer.score(transcripts)
    return recording


def forward(model: SentenceTransformer, batches: Sequence[dict[str, Any]]) -> None:
    with torch.inference_mode():
        for batch in batches:
            model(dict(batch))


def compare(name: str, transcripts: Transcripts, every_text: list[str], model: SentenceTransformer) -> str:
    """A row: the stage against the forward pass and against `encode` of every text it needs."""
    recording, stage = recorded(transcripts), Embedding(EmbeddingSettings(device="cpu"))
    bare, whole, library = best(
        lambda: forward(model, recording.batches),
        lambda: stage.score(transcripts),
        lambda: model.encode(every_text),
    )
    masks = [batch["attention_mask"] for batch in recording.batches]
    tokens, padded = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    return (
        f"| {torch.get_num_threads()} | {name} | {len(every_text)} / {len(recording.texts)} | {tokens:,} |"
        f" {padded / tokens - 1:.1%} | {whole:.2f} | {bare / whole:.2f} | {library / whole:.2f} |"
    )


def speed(model: SentenceTransformer, tokens: int) -> None:
    """Texts of about so many tokens a second, through the encoder."""
    rng = np.random.default_rng(1)
    texts = [made_up(rng, round(tokens * 0.83)) for _ in range(64 if tokens > 100 else 192)]
    encoder = Encoder(locate("bundled"), "cpu")
    (seconds,) = best(lambda: encoder.encode(texts))
    mean = model.preprocess(texts)["attention_mask"].sum().item() / len(texts)
    print(f"{torch.get_num_threads()} threads: {len(texts) / seconds:.0f} texts/s of {mean:.0f} tokens on average")


def sweep(texts: Sequence[str]) -> None:
    """Seconds of the encoder by the size of its batches."""
    encoder, kept = Encoder(locate("bundled"), "cpu"), encoder_module._BATCH_TOKENS["cpu"]
    times = dict.fromkeys(BUDGETS, np.inf)
    for _ in range(2):
        for budget in BUDGETS:
            encoder_module._BATCH_TOKENS["cpu"] = budget
            begin = clock()
            encoder.encode(texts)
            times[budget] = min(times[budget], clock() - begin)
    encoder_module._BATCH_TOKENS["cpu"] = kept
    print(
        f"{torch.get_num_threads()} threads, seconds by tokens of a batch:", {b: round(t, 2) for b, t in times.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--exchanges", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    weighed = subprocess.run([sys.executable, "-c", _WEIGHT], check=True, capture_output=True, text=True).stdout
    for name, seconds, mebibytes in json.loads(weighed.splitlines()[-1]):
        print(f"{name}: {seconds:.2f} s, {mebibytes:.0f} MiB resident after it")
    transcripts = (shared_transcripts if chosen.shared else made_up_transcripts)(chosen.exchanges)
    bare = Transcripts(transcripts.prompt, transcripts.response, np.full(len(transcripts), None, np.object_))
    model = SentenceTransformer(str(locate("bundled")), device="cpu")
    sides = [*transcripts.prompt.tolist(), *transcripts.response.tolist()]
    with_contexts = [*sides, *(set(recorded(transcripts).texts) - set(sides))]
    print("\n| threads | signals | texts, distinct | tokens | padding | stage s | forward / stage | encode / stage |")
    print("|---|---|---|---|---|---|---|---|")
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        print(compare("without contexts", bare, sides, model), flush=True)
        print(compare("all", transcripts, with_contexts, model), flush=True)
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        speed(model, 60)
        speed(model, 250)
        sweep(sorted(set(sides)))


if __name__ == "__main__":
    main()
