"""Toxicity against the library whose model it is, and which texts it will not judge."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.decoding import Native
from monitor.model import Floats, Position, Raw, Scores
from monitor.scorers import characters
from monitor.scorers import lexicon as lexicon_module
from monitor.scorers import toxicity as toxicity_module
from monitor.scorers.english import ENGLISH, FOREIGN
from monitor.scorers.lexicon import lexicon
from monitor.scorers.toxicity import FLOOR, Toxicity, ToxicitySettings, judge
from monitor.scorers.words import LONGEST

SHARED = Path(__file__).resolve().parents[2] / "shared"
_PIECES = [
    *(
        "fuck",
        "FUCK",
        "bitch",
        "you",
        "the",
        "village",
        "5",
        "100",
        "_",
        "a",
        "é",
        "josé",
        "José",
        "JOSÉ",
        "μελ",
        "ΜΕΛ",
    ),
    *("beyoncé", "中", "竜龙", "ውይይት", "snunɐw", "vandalise", "x" * 24, "x" * 25, "K", "İ", "ß", "ΣΑΣ", "²", "½", "٣"),
    *("\0", "\n", " ", " ", " ", "-", "'", "’", ".", "\u00a0", "\u0301", "👩", "\u200d", "𝐟𝐮𝐜𝐤", "\U0010ffff", "_fuck"),
]
_TEXT = st.lists(
    st.sampled_from(_PIECES)
    | st.sampled_from(lexicon().terms)
    | st.integers(0, 0x10F7FF).map(lambda c: chr(c if c < 0xD800 else c + 0x800)),
    max_size=30,
).map("".join) | st.lists(st.sampled_from([*_PIECES, *ENGLISH, *FOREIGN]), max_size=30).map(" ".join)


def score(*rows: dict[str, Any], threshold: float | None = None) -> Scores:
    payloads = [msgspec.json.encode({"ts": 0, **row}) for row in rows]
    records, rejects = Native().decode(Raw("p", payloads, list(range(len(rows))), [], Position(0)))
    assert not rejects
    return (Toxicity() if threshold is None else Toxicity(ToxicitySettings(threshold=threshold))).score(records)


def judged(*texts: str) -> list[bool]:
    """Which texts were not set aside for their language."""
    return [not strange for strange in judge(texts)[1]]


# ---- the score ------------------------------------------------------------------------------------------------------


def of_library(texts: list[str]) -> Floats:
    library = importlib.import_module("profanity_check")  # here, so that only those who ask wait for it
    probability: Floats = library.predict_prob(texts)
    return probability


def assert_agrees(texts: list[str]) -> int:
    probability, _ = judge(texts)
    seen = ~np.isnan(probability)
    expected = of_library(texts) if texts else np.zeros(0)
    np.testing.assert_allclose(probability[seen], expected[seen], rtol=0, atol=1e-12)
    return int(seen.sum())


@settings(deadline=None)  # the first call imports the library
@given(st.lists(_TEXT, min_size=1, max_size=8))
def test_it_agrees_with_the_library(texts: list[str]) -> None:
    assert_agrees(texts)


@settings(deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=8), st.integers(1, 40))
def test_it_does_not_depend_on_how_texts_are_cut_into_chunks(texts: list[str], size: int) -> None:
    whole = judge(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CHUNK_BYTES", size)
        for part, expected in zip(judge(texts), whole, strict=True):
            assert part.tobytes() == expected.tobytes()


def test_every_term_of_the_model_is_found() -> None:
    terms = lexicon().terms
    assert len(terms) > 15_000
    latin = [term for term in terms if term.isascii()]
    assert assert_agrees([term.upper() for term in latin]) > 0.96 * len(latin)  # the others are numbers or foreign
    assert assert_agrees([f"the {term} is" for term in terms]) > 0.95 * len(terms)


def test_long_texts_and_the_longest_words() -> None:
    long = "you stupid " + "x" * LONGEST + " idiot " + "y" * 1_000_000
    assert assert_agrees([long, "village pump " * 100_000, "a", "Idiot " * 3]) == 4


def test_a_word_ends_with_its_text() -> None:
    one, other = score({"prompt": "bi"}, {"prompt": "tch"}).columns["prompt_toxicity"], score({"prompt": "bitch"})
    assert list(np.asarray(one)) == [0.0, 0.0]
    assert np.asarray(other.columns["prompt_toxicity"])[0] > 0.9


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the labelled text is not beside this checkout")
def test_it_agrees_with_the_library_on_real_text() -> None:
    texts = []
    for path in sorted((SHARED / "data").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file][::5]
        texts += [row[side] for row in rows for side in ("prompt", "response") if row[side]]
    assert assert_agrees(texts) > 10_000


# ---- what is observed -----------------------------------------------------------------------------------------------


def test_score_and_rate_at_the_operating_point() -> None:
    rows = [{"prompt": "You stupid bitch", "response": "Thank you for the kind words."}, {"prompt": "stupid question"}]
    columns = score(*rows).columns
    toxicity = np.asarray(columns["prompt_toxicity"])
    assert toxicity[0] == pytest.approx(of_library(["You stupid bitch"])[0], abs=1e-12)
    assert np.asarray(columns["prompt_toxic"])[0] == 1.0
    assert np.asarray(columns["response_toxicity"])[0] == np.asarray(columns["response_toxic"])[0] == 0.0
    middle = float(of_library(["stupid question"])[0])
    assert toxicity[1] == pytest.approx(middle, abs=1e-12)
    for threshold, expected in ((middle - 1e-9, 1.0), (middle + 1e-9, 0.0)):
        found = score(*rows, threshold=threshold).columns
        assert np.asarray(found["prompt_toxic"])[1] == expected


def test_a_probability_below_the_floor_counts_as_none() -> None:
    texts = ["the village pump", "you are silly", "what a stupid idea"]
    raw, _ = judge(texts)
    assert raw.min() < FLOOR < raw.max()
    found = np.asarray(score(*({"response": text} for text in texts)).columns["response_toxicity"])
    assert found.tolist() == [value if value >= FLOOR else 0.0 for value in raw]


def test_absent_blank_and_wordless_texts_have_no_observation_and_no_remark() -> None:
    rows = [{}, {"prompt": ""}, {"prompt": " \n"}, {"prompt": "42 + 1 = 43"}, {"prompt": "👍"}, {"prompt": "𝐛𝐨𝐥𝐝"}]
    scores = score(*rows, {"prompt": "fuck this", "kind": "feedback", "feedback": 1})
    for column in scores.columns.values():
        assert np.isnan(np.asarray(column)).all()
    assert not any(flags.any() for flags in scores.remarks.values())


def test_another_language_is_remarked_and_not_scored() -> None:
    german = "Du bist ein Idiot und ich mag dich nicht"
    scores = score({"prompt": german, "response": "Thanks"}, {"prompt": "Thanks", "response": german})
    assert {name: flags.tolist() for name, flags in scores.remarks.items()} == {
        "prompt_toxicity_language": [True, False],
        "response_toxicity_language": [False, True],
    }
    assert np.isnan(np.asarray(scores.columns["prompt_toxic"])).tolist() == [True, False]
    event = score({"kind": "feedback", "feedback": 1, "prompt": german})
    assert not event.remarks["prompt_toxicity_language"].any()


@pytest.mark.parametrize(
    "text",
    [
        *("Yes", "Paris", "Johannesburg", "Niels Fabian Helge von Koch", "Vilhelm Bjerknes", "Leonardo da Vinci"),
        *("lmao u dumb af smh", "RT @snortcourt13: bitches be like &#128514; http://t.co/xyz", "fuck", "wtf bruh"),
        "The answer is calculator('12*15').\n#### 180",
        "def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)",
        'The German word "und" means "and".',
        "Sorry, I cannot help with that.",
        "The capital of Japan is Tokyo (東京).",
        "É",
    ],
)
def test_english_names_slang_and_code_are_judged(text: str) -> None:
    assert judged(text) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Wie kann ich mein Passwort zurücksetzen?",
        "¿Cómo puedo cambiar mi contraseña para entrar?",
        "Comment puis-je changer mon mot de passe sans vous appeler ?",
        "Hoe kan ik mijn wachtwoord veranderen?",
        "Como posso mudar a minha senha? Eu não sei",
        "Non so come cambiare questa cosa perché non la trovo più",
        "Nie wiem, jak to zrobić, czy jest ktoś?",
        "Parolamı nasıl değiştirebilirim, bu çok zor",
        "Saya tidak tahu bagaimana mengubah kata sandi ini",
        "Mật khẩu của tôi không hoạt động nữa rồi bạn ơi giúp tôi với",
        "我讨厌俄罗斯人",
        "パスワードを変更するにはどうすればいいですか",
        "Как мне сменить пароль?",
        "كيف أغير كلمة المرور",
    ],
)
def test_other_languages_are_not_judged(text: str) -> None:
    assert judged(text) == [False]


def test_listed_words_are_words_and_tell_one_language_only() -> None:
    assert set(ENGLISH) & set(FOREIGN) == set()
    for listed in (ENGLISH, FOREIGN):
        assert len(set(listed)) == len(listed)
        assert all(re.fullmatch(r"\w\w+", word) and word == word.lower() for word in listed)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the labelled text is not beside this checkout")
@pytest.mark.parametrize(
    ("name", "side", "least"),
    [
        ("general_halueval", "response", 0.997),
        ("math_gsm8k", "response", 0.999),
        ("graded_simpleqa_models", "response", 1.0),
        ("multimodel_vicuna_bench", "response", 1.0),
        ("general_gpteacher_tooluse", "response", 1.0),
        ("factual_simpleqa", "response", 0.997),
        ("toxic_davidson", "prompt", 0.995),
    ],
)
def test_shares_of_english_sets_that_are_judged(name: str, side: str, least: float) -> None:
    with gzip.open(SHARED / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [row[side] for row in map(json.loads, file) if row[side]]
    for beginnings in (texts, [" ".join(text.split()[:12]) for text in texts]):
        assert np.mean(judged(*beginnings)) >= least


# ---- the model ------------------------------------------------------------------------------------------------------


def test_no_heavy_library_is_imported() -> None:
    script = """
import sys
from monitor.scorers.toxicity import Toxicity
Toxicity()
heavy = {"sklearn", "scipy", "pandas", "joblib", "profanity_check"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_settings_are_checked() -> None:
    with pytest.raises(pydantic.ValidationError, match="threshold"):
        ToxicitySettings(threshold=1.5)
    with pytest.raises(pydantic.ValidationError, match="lexical"):
        ToxicitySettings.model_validate({"model": "bert"})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon_module, "PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match="alt-profanity-check"):
        lexicon.__wrapped__()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    spec = importlib.util.find_spec("profanity_check")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    names = ("vectorizer.joblib", "model.joblib")
    return tuple(Path(shutil.copy(folder / name, tmp_path)) for name in names)  # type: ignore[return-value]


def test_a_file_cut_short_or_of_another_kind_is_refused(files: tuple[Path, Path]) -> None:
    words, model = files
    whole = model.read_bytes()
    for data in (b"", whole[:300], whole[: len(whole) // 2], whole[:-40], b"not a model"):
        model.write_bytes(data)
        with pytest.raises(ValueError, match=r"does not hold the model|holds .* terms"):
            lexicon_module._read(words, model)
    model.write_bytes(whole)
    assert len(lexicon_module._read(words, model).terms) == len(lexicon().terms)
    with pytest.raises(ValueError, match="does not hold the model"):
        lexicon_module._read(model, words)
    data = words.read_bytes()
    words.write_bytes(data.replace(rb"(?u)\b\w\w+\b", rb"(?u)\b\w\w*\b"))
    with pytest.raises(ValueError, match="token_pattern"):
        lexicon_module._read(words, model)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (Path("harm"), "done"))


def test_nothing_that_a_file_names_is_run(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files[0].write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match=r"pathlib.*has no place in it"):
        lexicon_module._read(*files)
    assert not (tmp_path / "harm").exists()


def test_a_planted_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "what a stupid village"
    assert_agrees([text])
    wrong = lexicon().idf.copy()
    wrong[lexicon().terms.index("stupid")] *= 1.001
    monkeypatch.setattr(toxicity_module, "lexicon", lambda: replace(lexicon(), idf=wrong))
    assert abs(judge([text])[0][0] - of_library([text])[0]) > 1e-6
