"""How much personal data is found, how much else is taken for it, and how fast.

`python tests/bench/redaction.py [DATA]`: data are planted in ordinary sentences of ten locales, in the forms in which
people write them; sentences with dates, prices, ids, versions and arithmetic hold none. DATA is a folder of real text,
`*.jsonl.gz` with `prompt` and `response`.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import phonenumbers
from faker import Faker
from phonenumbers import PhoneNumberFormat as Form
from rich.console import Console
from rich.table import Table

from monitor.redaction import redact

SENTENCES = {
    "en_US": ("Please note {} in the file.", "I wrote it down: {}.", "Is {} still right?", "{} is what she gave us"),
    "en_GB": ("We have {} on record.", "He left {} with the porter.", "It should read {}, not the old one."),
    "de_DE": ("Bitte notieren Sie {} im Vorgang.", "Ich habe {} aufgeschrieben.", "Stimmt {} noch?"),
    "fr_FR": ("Merci de noter {} dans le dossier.", "On m'a donné {} hier.", "Est-ce que {} est correct ?"),
    "es_ES": ("Por favor, anote {} en el expediente.", "Me dieron {} ayer.", "¿Sigue siendo {} correcto?"),
    "it_IT": ("Si prega di annotare {} nella pratica.", "Mi hanno dato {} ieri.", "È ancora giusto {}?"),
    "nl_NL": ("Noteer {} in het dossier.", "Ik kreeg gisteren {} door.", "Klopt {} nog?"),
    "pl_PL": ("Proszę zapisać {} w aktach.", "Wczoraj dostałem {} od niej.", "Czy {} jest nadal aktualne?"),
    "ja_JP": ("ファイルに{}を記入してください。", "昨日{}と聞きました。", "{} はまだ正しいですか。"),
    "pt_BR": ("Por favor, anote {} no processo.", "Ontem me passaram {} por aqui.", "Ainda é {} mesmo?"),
}
"""Locale -> sentences that do not name what is planted in them."""
TELEPHONES = {
    "en_US": "Call me at {} after five.",
    "en_GB": "My mobile is {}, ring any time.",
    "de_DE": "Meine Telefonnummer ist {}.",
    "fr_FR": "Mon téléphone : {}, après 17 h.",
    "es_ES": "Mi teléfono es el {}.",
    "it_IT": "Il mio cellulare è {}.",
    "nl_NL": "Mijn telefoonnummer is {}.",
    "pl_PL": "Mój telefon: {}.",
    "ja_JP": "電話番号は{}です。",
    "pt_BR": "Meu celular: {}.",
}
FRAMES = ("{}", '{{"value": "{}"}}', "<td>{}</td>", "**{}**", "1. {}\n2. ...", "({})", "`{}`", "a,{},b", "see: {}\n\n")
"""JSON, HTML, Markdown, lists: what stands around a datum that stands in no sentence."""
MARKS = {
    "phone digits": "[phone]",
    "national phone": "[phone]",
    "named phone": "[phone]",
    "international phone": "[phone]",
}
Plant = Callable[[random.Random, Faker, str], str]


@dataclass(frozen=True, slots=True)
class Planted:
    """A datum and what stands around it."""

    locale: str
    kind: str
    before: str
    datum: str
    behind: str

    @property
    def text(self) -> str:
        return self.before + self.datum + self.behind

    @property
    def mark(self) -> str:
        return MARKS.get(self.kind, f"[{self.kind}]")

    def found(self, redacted: str) -> bool:
        """Whether the datum is gone whole, and nothing else."""
        end = len(redacted) - len(self.behind)
        left = redacted[len(self.before) : end]
        whole = redacted.startswith(self.before) and redacted.endswith(self.behind)
        return whole and self.mark in left and not any(c.isalnum() for c in without_marks(left))


def without_marks(text: str) -> str:
    for mark in ("[email]", "[phone]", "[card]", "[iban]", "[key]", "[ip]"):
        text = text.replace(mark, "")
    return text


def valid_number(rng: random.Random, region: str) -> phonenumbers.PhoneNumber:
    """A fixed or mobile number that could be given out: an example with other last digits."""
    kind = rng.choice((phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE))
    example = phonenumbers.example_number_for_type(region, kind)
    assert example is not None
    digits = phonenumbers.national_significant_number(example)
    while True:
        drawn = digits[:-6] + "".join(rng.choices(string.digits, k=6))
        number = phonenumbers.parse(f"+{example.country_code}{drawn}")
        if phonenumbers.is_valid_number(number):
            return number


def international_phone(rng: random.Random, fake: Faker, locale: str) -> str:
    if rng.random() < 0.25:
        written = fake.phone_number()
        if written.startswith("+"):
            return str(written)
    number = valid_number(rng, locale[-2:])
    written = phonenumbers.format_number(number, Form.INTERNATIONAL)
    return rng.choice(
        (
            written,
            phonenumbers.format_number(number, Form.E164),
            written.replace(" ", "-"),
            written.replace(" ", "."),
            written.replace("+", "00", 1),
            phonenumbers.format_number(number, Form.E164).replace("+", "00", 1),
            written.replace(" ", " (0) ", 1) if locale in {"en_GB", "de_DE", "fr_FR", "nl_NL"} else written,
            "(" + written.replace(" ", ") ", 1),
            written.replace(" ", "\u00a0"),
        )
    )


def national_phone(rng: random.Random, fake: Faker, locale: str) -> str:
    """In groups, half of them as Faker draws them: not all of those could be given out."""
    for _ in range(20):
        if rng.random() < 0.5:
            written = str(fake.phone_number())
            if not written.startswith(("+", "00")) and not written.isdecimal():
                return written
    written = phonenumbers.format_number(valid_number(rng, locale[-2:]), Form.NATIONAL)
    return rng.choice((written, written, written.replace(" ", "-")))


def phone_digits(rng: random.Random, _fake: Faker, locale: str) -> str:
    """A national number without groups."""
    written = phonenumbers.format_number(valid_number(rng, locale[-2:]), Form.NATIONAL)
    return "".join(filter(str.isdecimal, written))


def card(rng: random.Random, fake: Faker, locale: str) -> str:
    digits = "0"
    while digits.startswith("0"):  # no issuer has such numbers, though Faker does
        digits = str(fake.credit_card_number())
    lengths = [4, 6, 5] if len(digits) == 15 else [4] * 5
    separator = rng.choice(("", " ", " ", "-", ".", "\u00a0"))
    written = separator.join(grouped(digits, lengths))
    return written.translate(FULL_WIDTH) if locale == "ja_JP" and rng.random() < 0.2 else written


FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in string.digits + "-"}


def grouped(text: str, lengths: list[int]) -> Iterator[str]:
    at = 0
    for length in lengths:
        if at < len(text):
            yield text[at : at + length]
        at += length


def iban(rng: random.Random, _fake: Faker, _locale: str) -> str:
    code = str(Faker(rng.choice(("de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "en_GB"))).iban())
    written = rng.choice(("", " ", " ", "-")).join(grouped(code, [4] * 9))
    return written.lower() if rng.random() < 0.1 else written


def email(rng: random.Random, fake: Faker, _locale: str) -> str:
    plain = str(rng.choice((fake.email, fake.company_email, fake.free_email))())
    local, _, domain = plain.partition("@")
    return rng.choice(
        (
            plain,
            plain,
            plain,
            f"{local}+news@{domain}",
            plain.upper(),
            f"<{plain}>",
            f"mailto:{plain}"[7:],
            f"o'{plain}",
        )
    )


def url_safe(rng: random.Random, size: int) -> str:
    return base64.urlsafe_b64encode(rng.randbytes(size)).decode().rstrip("=")


def key(rng: random.Random, _fake: Faker, _locale: str) -> str:
    """A key alone. What a name gives away is planted with its name, in `sentences`."""

    def pick(size: int, of: str = string.ascii_letters + string.digits) -> str:
        return "".join(rng.choices(of, k=size))

    upper = string.ascii_uppercase + string.digits
    body = base64.b64encode(rng.randbytes(600)).decode()
    pem = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    kind = rng.choice(("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "))
    return rng.choice(
        (
            "AKIA" + pick(16, upper),
            "ghp_" + pick(36),
            "github_pat_" + pick(22) + "_" + pick(59),
            f"xoxb-{pick(12, string.digits)}-{pick(12, string.digits)}-{pick(24)}",
            "sk-" + pick(48),
            "sk-proj-" + url_safe(rng, 90),
            "sk-ant-api03-" + url_safe(rng, 70),
            "sk_live_" + pick(24),
            "AIza" + url_safe(rng, 26)[:35].ljust(35, "x"),
            ".".join(("eyJ" + url_safe(rng, 24), "eyJ" + url_safe(rng, 80), url_safe(rng, 32))),
            f"-----BEGIN {kind}PRIVATE KEY-----\n{pem}\n-----END {kind}PRIVATE KEY-----",
            "hf_" + pick(34),
            "glpat-" + pick(20),
        )
    )


def named_key(rng: random.Random, fake: Faker, _locale: str) -> tuple[str, str, str]:
    """What stands before, the secret, and what stands behind."""
    password = str(fake.password(length=rng.randint(8, 20)))
    token = url_safe(rng, 24) + "7"
    plain = "".join(rng.choices(string.ascii_lowercase, k=9))
    return rng.choice(
        (
            ("password=", password, "\n"),
            ("Password: ", password, "\n"),
            ('"password": "', password.replace('"', ""), '"}'),
            ("DB_PASSWORD='", password.replace("'", ""), "'"),
            ("?user=bob&password=", plain, "&x=1"),
            ("my password is ", plain + "42", " I think"),
            ("Passwort: ", plain + "!", "\n"),
            ("api_key: ", token, "\n"),
            ('"apiKey": "', token, '",'),
            ("export AWS_SECRET_ACCESS_KEY=", base64.b64encode(rng.randbytes(30)).decode(), "\n"),
            ("client_secret = '", token, "'"),
            ("Authorization: Bearer ", token, "\n"),
            ("access token: ", token, " ok"),
            ("https://", f"{fake.user_name()}:{plain}9", "@example.com/x"),
            ("postgres://", f"app:{plain}", "@db.internal:5432/app"),
        )
    )


KINDS: dict[str, Plant] = {
    "email": email,
    "card": card,
    "iban": iban,
    "key": key,
    "international phone": international_phone,
    "national phone": national_phone,
    "phone digits": phone_digits,
}


def planted(locale: str, each: int, seed: int = 0) -> Iterator[Planted]:
    """`each` texts of a locale for each kind of datum."""
    rng, fake = random.Random(f"{seed} {locale}"), Faker(locale)  # noqa: S311  no secrets
    Faker.seed(seed)
    for kind, plant in KINDS.items():
        for _ in range(each):
            frame = rng.choice(SENTENCES[locale] + SENTENCES[locale] + FRAMES)
            before, _, behind = frame.replace("{{", "{").replace("}}", "}").partition("{}")
            yield Planted(locale, kind, before, plant(rng, fake, locale), behind)
    for _ in range(each):
        yield Planted(locale, "key", *named_key(rng, fake, locale))
        before, _, behind = TELEPHONES[locale].partition("{}")
        yield Planted(
            locale, "named phone", before, rng.choice((national_phone, phone_digits))(rng, fake, locale), behind
        )


def innocent(locale: str, each: int, seed: int = 0) -> Iterator[str]:
    """Texts without personal data, most of them with numbers."""
    rng, fake = random.Random(f"{seed} {locale} none"), Faker(locale)  # noqa: S311
    Faker.seed(seed)
    number: Callable[[int, int], int] = rng.randint
    makers: tuple[Callable[[], str], ...] = (
        lambda: fake.date(rng.choice(("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%m-%Y %H:%M", "%Y%m%d"))),
        lambda: fake.iso8601() + "Z",
        lambda: str(fake.uuid4()),
        lambda: f"{number(0, 20)}.{number(0, 40)}.{number(0, 99)}",
        lambda: f"v{number(1, 9)}.{number(0, 9)}.{number(0, 9)}.{number(0, 9)}",
        lambda: f"{number(1000, 99_999_999):,} $",
        lambda: f"€ {number(1000, 99_999_999):,}".replace(",", "."),
        lambda: f"{number(1000, 99_999_999):,} zł".replace(",", " "),
        lambda: f"{number(1, 99)} * {number(1000, 999_999)} = {number(100_000, 9_999_999)}",
        lambda: f"{number(1000, 9999)} - {number(1000, 9999)} = {number(1, 9999)}",
        lambda: f"{rng.random() * 100}",
        lambda: str(number(1_500_000_000, 1_900_000_000)),
        lambda: str(number(1_500_000_000_000, 1_900_000_000_000)),
        lambda: str(number(1_000_000, 9_999_999)),
        lambda: f"#{number(10_000_000, 999_999_999)}",
        lambda: str(fake.isbn13()),
        lambda: str(fake.ipv4_private()),
        lambda: str(fake.postcode()),
        lambda: f"{fake.latitude()}, {fake.longitude()}",
        lambda: str(fake.sha1()),
        lambda: str(fake.hex_color()),
        lambda: " ".join(str(number(0, 99)) for _ in range(12)),
        lambda: ", ".join(str(number(0, 9999)) for _ in range(8)),
        lambda: f"{number(1900, 2030)}-{number(1900, 2030)}",
        lambda: f"{number(0, 23):02}:{number(0, 59):02}:{number(0, 59):02}.{number(0, 999_999):06}",
        lambda: f"{number(1, 999)} {number(100, 999)} {number(100, 999)}",
        lambda: f"x = [{number(0, 255)}, {number(0, 255)}]; y[{number(0, 99)}] = 0x{number(0, 2**32):08x}",
        lambda: str(fake.paragraph(nb_sentences=3)),
        lambda: "@" + str(fake.user_name()),
        lambda: "the password must have 8 characters; a token is " + str(number(3, 5)) + " letters",
        lambda: "pip install numpy==2." + str(number(0, 9)) + ".1 && git clone git@github.com:a/b.git",
        lambda: f"{number(10, 99)}-{number(1000000, 9999999)}/{number(100, 999)}",
    )
    for i in range(each):
        yield rng.choice(SENTENCES[locale]).format(makers[i % len(makers)]())


def figures(each: int, seed: int = 0) -> tuple[Table, dict[tuple[str, str], float]]:
    """Recall by locale and kind, precision by kind; as a table and as numbers."""
    kinds = [*KINDS, "named phone"]
    table = Table(title=f"share found, {each} or more of each kind a locale", header_style="bold")
    for name in ("locale", *kinds, "innocent texts changed"):
        table.add_column(name)
    shares: dict[tuple[str, str], float] = {}
    right, marks, changed, all_innocent = Counter[str](), Counter[str](), 0, 0
    for locale in SENTENCES:
        texts = list(planted(locale, each, seed))
        hits, total = Counter[str](), Counter[str]()
        for item, redacted in zip(texts, redact([item.text for item in texts]), strict=True):
            assert redacted is not None
            hits[item.kind] += item.found(redacted)
            total[item.kind] += 1
            right[item.mark] += item.found(redacted)
            marks.update({m: redacted.count(m) for m in ("[email]", "[card]", "[iban]", "[key]", "[phone]")})
        plain = list(innocent(locale, each, seed))
        cleaned = [text or "" for text in redact(plain)]
        wrong = sum(a != b for a, b in zip(plain, cleaned, strict=True))
        for text in cleaned:
            marks.update({m: text.count(m) for m in ("[email]", "[card]", "[iban]", "[key]", "[phone]")})
        changed, all_innocent = changed + wrong, all_innocent + len(plain)
        shares |= {(locale, kind): hits[kind] / total[kind] for kind in kinds} | {(locale, "wrong"): wrong / len(plain)}
        table.add_row(locale, *(f"{shares[locale, kind]:.3f}" for kind in kinds), f"{wrong / len(plain):.3f}")
    means = {kind: sum(shares[locale, kind] for locale in SENTENCES) / len(SENTENCES) for kind in kinds}
    shares |= {("all", kind): mean for kind, mean in means.items()} | {("all", "wrong"): changed / all_innocent}
    shares |= {("precision", mark): right[mark] / marks[mark] for mark in marks}
    table.add_row("all", *(f"{means[kind]:.3f}" for kind in kinds), f"{changed / all_innocent:.3f}", style="bold")
    precise = [shares["precision", MARKS.get(kind, f"[{kind}]")] for kind in kinds]
    table.add_row("precision", *(f"{share:.3f}" for share in precise), "", style="bold")
    return table, shares


def real_text(folder: Path) -> Table:
    """How many of the texts of each file are changed."""
    table = Table(title="real text", header_style="bold")
    for name in ("file", "texts", "changed", "marks"):
        table.add_column(name)
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        texts = list(dict.fromkeys(text for row in rows for text in (row["prompt"], row["response"]) if text))
        pairs = list(zip(texts, redact(texts), strict=True))
        marks = Counter(
            {
                m: sum(str(new).count(m) - old.count(m) for old, new in pairs)
                for m in ("[email]", "[phone]", "[key]", "[card]", "[iban]", "[ip]")
            }
        )
        found = ", ".join(f"{count} {mark[1:-1]}" for mark, count in marks.items() if count)
        table.add_row(path.name, str(len(texts)), str(sum(old != new for old, new in pairs)), found)
    return table


def speed() -> Table:
    """Texts of 1 kB a second."""
    table = Table(title="1 kB texts a second, one core", header_style="bold")
    table.add_column("text")
    table.add_column("texts/s")
    filler = "The quick brown fox jumps over the lazy dog while nobody in the whole village is looking. " * 12
    numbers = "In 2024-05-06 it cost 1,234,567 and 12 * 345678 = 4148136 of them went; version 1.22.3 is out. " * 12
    dirty = [item for locale in SENTENCES for item in planted(locale, 20)]
    batches = {
        "clean, no numbers": [filler[:1000]] * 20_000,
        "clean, many numbers": [numbers[:1000]] * 2_000,
        "one datum": [f"{filler[:450]} {item.before}{item.datum[:200]}{item.behind} {filler[:450]}" for item in dirty],
        "ten data": [" ".join(item.text[:100] for item in dirty[i::150][:10]).ljust(1000, ".") for i in range(150)],
    }
    redact(["+49 30 1234567, 030 1234567"])
    for name, texts in batches.items():
        begin = time.process_time()
        redact(texts)
        table.add_row(name, f"{len(texts) / (time.process_time() - begin):,.0f}")
    return table


def main() -> None:
    console = Console(width=170)
    console.print(figures(400, seed=1)[0])  # not the seed that the detectors were tuned on
    console.print(speed())
    if len(sys.argv) > 1:
        console.print(real_text(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
