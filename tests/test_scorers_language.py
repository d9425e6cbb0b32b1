"""Language: what is told, what is left untold, and that neither changes with the topics of English traffic."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.model import Categories, Scores, Transcripts
from monitor.scorers.language import BEGINNING, SIGNALS, Language

SHARED = Path(__file__).resolve().parents[2] / "shared"
LANGUAGE = Language()
SENTENCES = {
    "en": "How do I change the password of my account?",
    "de": "Wie kann ich das Passwort für mein Konto ändern?",
    "fr": "Comment puis-je changer le mot de passe de mon compte ?",
    "es": "¿Cómo puedo cambiar la contraseña de mi cuenta?",
    "it": "Non so come posso cambiare la password del mio account, perché non la trovo più",
    "nl": "Hoe kan ik het wachtwoord van mijn account wijzigen?",
    "pl": "Jak mogę zmienić hasło do mojego konta, bo nie wiem gdzie to jest?",
    "tr": "Hesabımın şifresini nasıl değiştirebilirim, bu çok zor",
    "vi": "Làm thế nào để tôi thay đổi mật khẩu cho tài khoản của mình?",
    "ja": "アカウントのパスワードを変更するにはどうすればいいですか?",
    "zh": "我怎样才能更改我的账户密码?",
    "ko": "계정 비밀번호를 어떻게 변경하나요?",
    "ru": "Как мне сменить пароль от моей учётной записи?",
    "uk": "Як мені змінити пароль до мого облікового запису?",
    "ar": "كيف يمكنني تغيير كلمة المرور لحسابي؟",
    "hi": "मैं अपने खाते का पासवर्ड कैसे बदल सकता हूँ?",
    "he": "איך אני משנה את הסיסמה של החשבון שלי?",
    "th": "ฉันจะเปลี่ยนรหัสผ่านของบัญชีได้อย่างไร",
    "el": "Πώς μπορώ να αλλάξω τον κωδικό του λογαριασμού μου;",
}


def said(texts: list[str | None]) -> list[str | None]:
    return named(LANGUAGE.languages(texts))


def named(column: Categories) -> list[str | None]:
    return [None if code < 0 else column.names[code] for code in column.codes.tolist()]


def transcripts(prompts: list[str | None], responses: list[str | None]) -> Transcripts:
    return Transcripts.load((prompts, responses, [None] * len(prompts)))


def columns(scores: Scores) -> dict[str, list[str | None]]:
    found = {}
    for name, column in scores.columns.items():
        assert isinstance(column, Categories)
        assert column.codes.dtype == np.int32
        found[name] = named(column)
    return found


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_told(code: str) -> None:
    assert said([SENTENCES[code]]) == [code]


@pytest.mark.parametrize(
    "text",
    [
        *("Paris", "42", "15 + 27 = 42", "", " \n", "Vilhelm Bjerknes", "#### 180", "👍👍", "calculator('15*12')", "π"),
        *("Lilian Masediba Matabane Ngoyi", "Isa Genzken", "Der Spiegel", "x = 5", "30 June 1949"),
    ],
)
def test_short_answers_names_and_sums_have_no_observation(text: str) -> None:
    assert said([text]) == [None]


def test_refusals_code_and_cut_answers_are_english_or_untold() -> None:
    texts: list[str | None] = [
        "I'm sorry, but I can't help with that.",
        "def add(first, second):\n    return first + second",
        "The answer is calculator('12*15').",
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May. Natalia",
        "The first president of the United States was George Washington, who",
    ]
    assert set(said(texts)) <= {"en", None}
    assert said(texts)[0] == "en"


def test_columns_of_both_sides() -> None:
    found = columns(
        LANGUAGE.score(
            transcripts([SENTENCES["de"], None, "", "Yes"], ["Thank you very much", SENTENCES["ja"], None, ""])
        )
    )
    assert found == {"prompt_language": ["de", None, None, None], "response_language": ["en", "ja", None, None]}
    assert [signal.name for signal in LANGUAGE.signals] == list(found)
    assert all(signal.sample and signal.kind == "category" for signal in SIGNALS)
    assert columns(LANGUAGE.score(transcripts([], []))) == {"prompt_language": [], "response_language": []}


def test_a_text_has_one_answer_wherever_it_stands() -> None:
    texts: list[str | None] = [*SENTENCES.values(), None, "Paris", "x" * 300_000, *reversed(SENTENCES.values())]
    whole = said(texts)
    assert whole == [answer for text in texts for answer in said([text])]
    assert said(texts * 20) == whole * 20


def test_only_the_beginning_is_looked_at() -> None:
    long = (SENTENCES["de"] + " ") * 10
    assert len(long) > BEGINNING
    assert said([long[:BEGINNING] + SENTENCES["ja"] * 100]) == ["de"]


def test_another_process_gives_the_same_answers() -> None:
    script = """
import json, sys
from monitor.scorers.language import Language
column = Language().languages(json.loads(sys.stdin.read()))
print(json.dumps([None if code < 0 else column.names[code] for code in column.codes.tolist()]))
"""
    texts: list[str | None] = [text[:cut] for text in SENTENCES.values() for cut in (15, 25, 400)]
    asked = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert json.loads(asked.stdout) == said(texts)


# ---- on real text ---------------------------------------------------------------------------------------------------

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the labelled text is not beside this checkout")
ENGLISH_SETS = [
    *("general_halueval", "general_gpteacher_roleplay", "general_gpteacher_tooluse", "math_gsm8k", "factual_simpleqa"),
    *("graded_simpleqa_models", "multimodel_vicuna_bench", "feedback_hh_harmless", "toxic_davidson"),
]


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(SHARED / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def shares(texts: list[str | None]) -> dict[str, float]:
    counts = Counter(answer for answer in said(texts) if answer)
    return {name: count / counts.total() for name, count in counts.items()}


def total_variation(one: dict[str, float], other: dict[str, float]) -> float:
    return sum(abs(one.get(name, 0) - other.get(name, 0)) for name in one.keys() | other) / 2


@pytest.mark.shared
@needs_shared
def test_topics_cuts_and_refusals_do_not_change_the_languages_of_english_traffic() -> None:
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for name in ENGLISH_SETS:
        for side in ("prompt", "response"):
            texts: list[str | None] = [row[side] for row in rows(name)[:600] if row[side]]
            if texts:
                found[name, side] = shares(texts)
                found[name, side, "cut"] = shares([" ".join((text or "").split()[:12]) for text in texts])
    assert len(found) == 34
    for one, other in itertools.combinations(found, 2):
        assert total_variation(found[one], found[other]) < 0.015, (one, other)


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize("code", ["de", "ja"])
def test_three_prompts_in_ten_in_another_language_show(code: str) -> None:
    english: list[str | None] = [row["prompt"] for row in rows("general_halueval")[:100]]
    mixed = [SENTENCES[code] if place % 10 < 3 else text for place, text in enumerate(english)]
    assert total_variation(shares(english), shares(mixed)) > 0.25


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize(
    ("code", "told", "right"), [("de", 0.6, 0.9), ("es", 0.45, 0.75), ("nl", 0.35, 0.8), ("zh", 1, 1)]
)
def test_phrases_of_two_to_five_words(code: str, told: float, right: float) -> None:
    texts: list[str | None] = [
        row["prompt"] for row in rows("toxic_multilingual_templates") if row["label"]["lang"] == code
    ]
    answers = [answer for answer in said(texts) if answer]
    assert len(answers) >= told * len(texts)
    assert answers.count(code) >= right * len(answers)
