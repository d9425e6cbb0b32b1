"""A sentence-transformers model small enough to be made by a test: BERT of two layers whose tokens are characters."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

MAX_TOKENS = 64
_LAYERS = 2
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
_VOCABULARY = [*_SPECIAL, *_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]


def make_tiny_model(folder: Path, width: int = 16, seed: int = 0) -> Path:
    """Write a model of random weights to `folder`, and return it. The same seed gives the same bytes."""
    (folder / "1_Pooling").mkdir(parents=True)
    save_file(_weights(width, seed), folder / "model.safetensors", {"format": "pt"})
    _tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 2,
        "num_hidden_layers": _LAYERS,
        "max_position_embeddings": MAX_TOKENS,
        "vocab_size": len(_VOCABULARY),
    }
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files: dict[str, Any] = {
        "config.json": config,
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": MAX_TOKENS, **names},
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _tokenizer() -> Tokenizer:
    """WordPiece over single characters, framed as BERT does."""
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(_VOCABULARY)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _weights(width: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Every parameter of transformers' BertModel; large enough that texts differ."""
    rng = np.random.default_rng(seed)

    def dense(name: str, out: int, into: int) -> dict[str, NDArray[np.float32]]:
        weight = rng.normal(0, 1 / np.sqrt(into), (out, into)).astype(np.float32)
        return {f"{name}.weight": weight, f"{name}.bias": rng.normal(0, 0.1, out).astype(np.float32)}

    def norm(name: str) -> dict[str, NDArray[np.float32]]:
        return {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}

    found = norm("embeddings.LayerNorm") | dense("pooler.dense", width, width)
    for name, rows, scale in (("word", len(_VOCABULARY), 1), ("position", MAX_TOKENS, 0.1), ("token_type", 2, 0.1)):
        found[f"embeddings.{name}_embeddings.weight"] = rng.normal(0, scale, (rows, width)).astype(np.float32)
    for layer in (f"encoder.layer.{i}" for i in range(_LAYERS)):
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            found |= dense(f"{layer}.{part}", width, width)
        found |= dense(f"{layer}.intermediate.dense", 2 * width, width) | dense(
            f"{layer}.output.dense", width, 2 * width
        )
        found |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
    return found
