"""Redaction: what is found, what is left alone, and laws that hold for any text."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import redaction
from monitor.redaction import REGIONS, redact
from tests.bench.redaction import FRAMES, SENTENCES, figures, innocent, planted, real_text

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MANY = 16  # from here on the pre-filter runs


def one(text: str) -> str:
    """A text redacted in a batch that is large enough for the pre-filter."""
    redacted = redact([*[""] * MANY, text])[-1]
    assert redacted is not None
    return redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail bob@example.com.", "mail [email]."),
        ("Bob <o'brien+x@mail.example.co.uk>, you", "Bob <[email]>, you"),
        ("bob [at] example (dot) com", "[email]"),
        ("メールはbob@example.comです", "メールは[email]です"),
        ("иван@почта.рф", "[email]"),
        ("call +49 (0) 30 1234567 now", "call [phone] now"),
        ("0049 30 1234567", "[phone]"),
        ("(555) 123-4567 or 555-123-4567 x89", "[phone] or [phone]"),
        ("06 12 34 56 78 06 98 76 54 32", "[phone] [phone]"),
        ("電話は０９０－１２３４－５６７８です", "電話は[phone]です"),
        ("٠٣٠ ١٢٣٤٥٦٧", "[phone]"),
        ("(351) 936 405 622", "[phone]"),
        ("02195 40613 589", "[phone]"),
        ('{"phone": "5551234567"}', '{"phone": "[phone]"}'),
        ("Tel. 1234567", "Tel. [phone]"),
        ("<b>4111 1111 1111 1111</b> 12/27", "<b>[card]</b> 12/27"),
        ("4111.1111.1111.1111\n378282246310005", "[card]\n[card]"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[card]"),
        ("41\u200b11\u00ad1111 1111\u20111111", "[card]"),
        ("４１１１−１１１１−１１１１−１１１１", "[card]"),
        ("\\n4111111111111111\\n", "\\n[card]\\n"),
        ("DE89 3704 0044 0532 0130 00 is mine", "[iban] is mine"),
        ("gb33bukb20201555555555,", "[iban],"),
        ("ＤＥ８９３７０４００４４０５３２０１３０００", "[iban]"),
        ("password=hunter2&x=1", "password=[key]&x=1"),
        ("Password: tr0ub4dor.", "Password: [key]."),
        ("my password is Abc12345, ok", "my password is [key], ok"),
        ('{"api_key": "abcdef1234567890"}', '{"api_key": "[key]"}'),
        ("https://bob:p@ss@example.com/x", "https://[key]@[email]/x"),
        ("Authorization: Bearer abcdef1234567890", "Authorization: Bearer [key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\ncut", "[key]"),
        ("from 81.2.69.142 and 2a00:1450:4001:81b::200e", "from [ip] and [ip]"),
    ],
)
def test_personal_data_is_replaced_by_its_mark(text: str, expected: str) -> None:
    assert one(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "12 * 345678 = 4148136, 3000-2225 = 775, 960-480-120=360, 80000 - 20000 = 60000",
        "2024-01-02T03:04:05.678901Z 2024-01-02 10:00:00 02/03/2024 1999-2003",
        "550e8400-e29b-41d4-a716-446655440000 12345678-1234-1234-1234-123456789012",
        "v1.22.3.4, numpy==2.4.6, 10.0.0.1, 192.168.1.20, 127.0.0.1:8080, 203.0.113.7",
        "3.141592653589793238 0.4111111111111111 1,234,567 1.234.567 12 345 678 €",
        "1234567 1700000000 1700000000000 #123456789 ISBN 978-0-306-40615-7",
        "4111 1111 1111 1112 has a wrong check digit; so has DE89370400440532013001",
        "def f(password: str, token=None): return get_token(password=password_hash(password))",
        "password = os.environ['PASSWORD']; pwd = ${PWD}; secret: {{ secret }}; max_tokens: 2048",
        "git@github.com:a/b.git image@2x.png @handle a @ b, 5 @ 3.50",
        "the password must have 8 letters; a token is a word",
        "1011 0010 1100 0110 1011",
    ],
)
def test_text_without_personal_data_is_left_as_it_is(text: str) -> None:
    assert one(text) == text


def test_none_and_nothing_stay() -> None:
    assert redact([]) == []
    assert redact([None, "", None]) == [None, "", None]
    assert redact([None] * MANY + ["", "bob@example.com"]) == [None] * MANY + ["", "[email]"]


def test_national_numbers_are_those_of_the_regions() -> None:
    assert redact(["0301234567 612345678"], regions=["DE"]) == ["[phone] 612345678"]
    assert redact(["0301234567", "+49 30 1234567"], regions=[]) == ["0301234567", "[phone]"]
    with pytest.raises(ValueError, match="'XX'"):
        redact(["0301234567"], regions=["XX"])


# ---- laws over any text ---------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(item.datum for item in planted("en_US", 3)),
        *(item.datum for item in planted("ja_JP", 2)),
        *(text for text in innocent("de_DE", 30)),
        *FRAMES,
        *(
            "[email]",
            "[phone]",
            "[card",
            "key]",
            "[",
            "]",
            "password=",
            "token: ",
            "tel ",
            "+",
            "(",
            "0",
            "00",
            "://",
            ":",
            "@",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "eyJ",
            "AKIA",
            "sk-",
            " ",
            "-",
            ".",
            "/",
            "\u200b",
            "１",
            "：",
            "（",
            "x12",
            " at ",
            "\n",
        ),
        *("4111", "1111", "030", "1234567", "555", "06", "12", "DE89", "com", "a", "bearer ", "\\n", "<<", "=", "is"),
    ]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.text("0123456789 -./()+", max_size=60),
    st.text("ab1@.[]:=- ", max_size=60),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_redacting_again_changes_nothing(text: str) -> None:
    (once,) = redact([text])
    assert redact([once]) == [once]


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_the_prefilter_changes_nothing(text: str) -> None:
    assert [one(text)] == redact([text])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | TEXTS, max_size=2 * MANY), st.integers(0, 2 * MANY))
def test_a_batch_is_redacted_as_its_texts_one_by_one(texts: list[str | None], cut: int) -> None:
    whole = redact(texts)
    assert whole == [redact([text])[0] for text in texts]
    assert whole == redact(texts[:cut]) + redact(texts[cut:])


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_only_marks_are_put_in(text: str) -> None:
    """What stands between the marks stood in the text, in that order."""
    at = 0
    for part in re.split(r"\[(?:email|phone|card|iban|key|ip)\]", one(text)):
        found = text.find(part, at)
        assert found >= 0
        at = found + len(part)


def test_what_is_not_settled_after_all_rounds_is_replaced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_letter(text: str) -> list[tuple[int, int]]:
        return [(len(text) - 1, len(text))] if text.endswith("z") else []

    monkeypatch.setattr(redaction, "_detectors", lambda _regions: (("[key]", last_letter),))
    few, many = "kept words " + "z" * 5, "kept words " + "z" * 40
    assert redact([few]) == ["kept words " + "[key]" * 5]
    (once,) = redact([many])
    assert once == "[key]" * 17
    assert redact([once]) == [once]


# ---- planted data ---------------------------------------------------------------------------------------------------

DIGITS = {
    "ASCII": str,
    "full-width": lambda text: text.translate({ord(str(d)): chr(0xFF10 + d) for d in range(10)}),
    "Arabic": lambda text: text.translate({ord(str(d)): chr(0x0660 + d) for d in range(10)}),
    "Devanagari": lambda text: text.translate({ord(str(d)): chr(0x0966 + d) for d in range(10)}),
}
SEPARATORS = ("", " ", "-", ".", "\u00a0", "\u2009", "\u2011", "–", "−", " - ", "\u200b", "\u00ad")


SPLIT_FRAMES = ("{}", "({})", '{{"a": "{}"}}', "<td>{}</td>", "**{}**", "see {}.", "は{}です", "{0}\n{0}")


@pytest.mark.parametrize("digits", DIGITS.values(), ids=DIGITS)
@pytest.mark.parametrize(
    ("groups", "mark"),
    [
        (["4111", "1111", "1111", "1111"], "[card]"),
        (["3782", "822463", "10005"], "[card]"),
        (["DE89", "3704", "0044", "0532", "0130", "00"], "[iban]"),
        (["+49", "30", "1234567"], "[phone]"),
        (["+1", "206", "555", "0123"], "[phone]"),
    ],
)
def test_no_digit_of_a_number_survives(groups: list[str], mark: str, digits: Callable[[str], str]) -> None:
    # nobody writes an IBAN with three characters between its groups; it is not looked for
    separators = [s for s in SEPARATORS if len(s) < 2 or mark != "[iban]"]
    cases = {frame.format(digits(s.join(groups))): frame.format(mark) for s in separators for frame in SPLIT_FRAMES}
    assert dict(zip(cases, redact(list(cases)), strict=True)) == cases


def test_recall_precision_and_innocent_text() -> None:
    shares = figures(60)[1]
    for kind in ("email", "card", "iban", "key"):
        assert shares["all", kind] >= 0.99, kind
    assert shares["all", "international phone"] >= 0.97
    assert shares["all", "named phone"] >= 0.97
    assert shares["all", "national phone"] >= 0.95
    for mark in ("[email]", "[card]", "[iban]", "[key]", "[phone]"):
        assert shares["precision", mark] >= 0.97, mark
    assert shares["all", "wrong"] <= 0.04


def test_several_in_one_text_are_all_found() -> None:
    items = [
        item
        for locale in SENTENCES
        for item in planted(locale, 1)
        if item.kind not in {"phone digits", "national phone"}
    ]
    text = "\n\n".join(item.text for item in items)
    redacted = one(text)
    assert [item.kind for item in items if item.datum in redacted] == []
    assert len(re.findall(r"\[(?:email|phone|card|iban|key)\]", redacted)) >= len(items)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the labelled text beside the checkout")
def test_little_of_real_text_is_changed() -> None:
    table = real_text(SHARED)
    names, texts, changed = ([str(cell) for cell in table.columns[column].cells] for column in range(3))
    assert sum(map(int, texts)) > 10_000
    # 46 of 46,000, nearly all of them real addresses, numbers and passwords
    assert sum(map(int, changed)) <= 0.002 * sum(map(int, texts))
    assert [count for name, count in zip(names, changed, strict=True) if "gsm8k" in name] == ["0", "0"]


# ---- bounded work ---------------------------------------------------------------------------------------------------

HOSTILE = (
    *("a", "@", "a@", "a.", "a@a.", "A", "é", " ", "\n", "-", ".", "[", "[email]", "\u200b", "１", "x1", "2:", "2001:"),
    *("1", "1 ", "12 ", "1-", "1.", "1/", "0", "+", "+1 ", "(", "((", "(1", "06 12 34 56 78 ", "4111 1111 ", "tel 1 "),
    *(
        "1.1.1.1",
        "2012-01-02 08 ",
        "AA00",
        "DE00 ",
        "DE89 3704 ",
        "\\n1",
        "://",
        "://a:",
        "a:b@",
        "-----",
        "eyJ",
        "eyJa.",
    ),
    *("password", "password=", "password: ", 'password: "', "token=a", "api_key ", "key is ", "bearer ", "bearer a"),
    *("-----BEGIN PRIVATE KEY-----", "AKIA", "sk-", "sk-a"),
)


def steps(text: str) -> int:
    """Lines of Python run to redact a text: the work of our loops, and no clock."""
    count = 0

    def trace(_frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        redact([text])
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_work_grows_with_the_length_of_hostile_text(unit: str) -> None:
    redact(["030 1234567 +49 30 1234567 DE89370400440532013000"])  # what is built once
    short, long = (steps((unit * size)[:size]) for size in (1_000, 4_000))
    assert long <= 6 * short + 2_000


BIG = """
import sys
from monitor.redaction import redact
for unit in eval(sys.stdin.read()):
    for tail in ("", "@", "="):
        text = (unit * 1_000_000)[: int(sys.argv[1])] + tail
        once = redact([text])
        assert redact(once) == once
"""


def test_long_hostile_text_ends() -> None:
    """The patterns' own work is seen by no tracer: a pattern that goes back and forth does not end in an hour."""
    rng = random.Random(0)  # noqa: S311
    units = rng.sample(HOSTILE, 4)
    subprocess.run([sys.executable, "-c", BIG, "100000"], input=repr(units), text=True, check=True, timeout=500)


def test_importing_it_loads_neither_telephones_nor_pandas() -> None:
    code = """
import sys, monitor.redaction as redaction
redaction.redact(["plain words"] * 20)
print([name for name in ("phonenumbers", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_regions_are_known() -> None:
    assert redact(["0301234567"], regions=REGIONS) == ["[phone]"]
