"""Is a text English? A cheap test of many texts, by their script and the words in them that are known.

A word counts for English if the lexicon of toxicity or ENGLISH has it, and against it if FOREIGN has it. Words of one
character or that begin with a digit do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from monitor.model import Flags, Ints
from monitor.scorers.characters import Chunk, beyond_ascii
from monitor.scorers.lexicon import lexicon
from monitor.scorers.scripts import LATIN, scripts
from monitor.scorers.words import WordList, Words, lower_case_letters, words

_ENGLISH = """
    about above after again against all also although always am an and another any are aren around as at away back
    be because been before being below between both but by can cannot could couldn did didn do does doesn doing
    don done down during each either else enough even ever every few for from further get give go had hadn has
    hasn have haven having he hence her here hers herself him himself his how however if in into is isn it its
    itself just keep last least less ll made many may me might mine more most much must my myself neither never
    next no nobody none nor not nothing now of off often on once one only or other others our ours ourselves out
    over own perhaps please put rather re same see seem seems several she should shouldn since so some something
    sometimes still such than that the their theirs them themselves then there therefore these they this those
    though three through thus to together too toward towards two under until up upon us ve very was wasn we well
    were weren what whatever when where whether which while who whole whom whose why will with within without won
    would wouldn yes yet you your yours yourself yourselves
"""
_FOREIGN = {
    "German": """
        aber auch auf bei bist dass dein deine doch durch eine einen einem einer eines für habe haben
        hast ich ihr ihre ist jetzt kann kannst kein keine machen mein meine mich mir möchte muss nach
        nicht noch nur oder sehr sein seine sich sie sind über und uns unter viel vom vor wenn werden
        wie wir wird wurde zu zum zur ein du das es wo warum ob alle schon
    """,
    "Dutch": """
        aan als bij deze dit dus een geen goed haar haat hebben heb heeft het hij ik jij jullie kan
        kunnen maar meer mijn moet naar niet nog omdat ook ons onze te uit veel voor waar waarom wel
        wij worden wordt zal ze zich zij zijn zo zou
    """,
    "Spanish": """
        algunos aunque como cómo contra cual cuando desde donde ellos ellas entre eran eres esta este
        esto está están estoy fue hasta hace más mis mucho muy nada nos nosotros otra otro para pero
        por porque puede que qué quien ser sí sobre somos también tengo tiene todo todos tu tus una
        unas unos usted ustedes
    """,
    "French": """
        aussi avec avez avoir bien ce ces cette chez dans deux elle être fait ils je leur leurs lui
        mais mes même nous où ou parce pas peut pourquoi qu quand qui quoi sans ses sont toi tous tout
        très une vos votre vous été
    """,
    "Portuguese": """
        ainda ao aos dos ela ele eles então essa esse foi isso já mas meu minha muito não nem pela pelo
        quando sao são sem seu sua também tem uma você vocês
    """,
    "Italian": """
        anche che chi ci cosa dei della delle gli hanno loro nel nella noi perché più poi quello questa
        questo sei sono suo tutto uno
    """,
    "Scandinavian": """
        alltså att blir det där efter eller ett från för har hur hvad hvor ikke inte jag jeg kommer mig
        mycket mye når när och også om på som vil är
    """,
    "Polish": """
        ale czy dla dlaczego gdy jak jest jestem nie ona oraz po przez się są tak tego też tylko
        wszystko że
    """,
    "Turkish": """
        ama bir bu çok daha değil gibi için ile kadar nasıl olan olarak sen siz veya
    """,
    "Indonesian": """
        adalah akan apa bagaimana bisa dalam dari dengan ini itu kami karena ke kita pada saya sudah
        tidak untuk yang
    """,
}

ENGLISH = tuple(_ENGLISH.split())
"""Function words, which a lexicon of terms leaves out."""
FOREIGN = tuple(word for listed in _FOREIGN.values() for word in listed.split())
"""Common words of other languages in Latin script, each once, but for those that are English words too or stand in many
names."""
_MANY = 8
"""Words of a text that is doubted even where no listed language shows."""
_ONE_CHARACTER = np.array([1 << 8] * 12 + [1 << 16] * 2 + [1 << 24, 1 << 32], np.uint64)
"""By the first byte's upper half: the least key of a word of more than one character."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What tells the language of each of some texts."""

    script: NDArray[np.int32]
    """Code in SCRIPTS, -1 without letters."""
    english: Ints
    """Number of words that are English."""
    foreign: Ints
    """Number of words of FOREIGN."""
    unknown: Ints
    """Number of other words."""

    def doubtful(self) -> Flags:
        """Texts that are not in English, as far as can be seen.

        Those in another script; those in which a foreign word stands and English ones are outnumbered by others, a
        foreign one counting twice; those of many words of which less than a quarter is English. Short answers, names,
        numbers, code and slang are no reason to doubt.
        """
        outnumbered = (self.foreign > 0) & (self.english < self.unknown + 2 * self.foreign)
        number = self.english + self.foreign + self.unknown
        other = (self.script >= 0) & (self.script != LATIN)
        strange: Flags = other | outnumbered | ((number >= _MANY) & (4 * self.english < number))
        return strange

    def certain(self) -> Flags:
        """Texts that are in English for sure: two English words at least, and not outnumbered.

        A foreign one counts six times: Italian shares many words with English names and with the lexicon.
        """
        enough = (self.english >= 2) & (self.english >= self.unknown + 6 * self.foreign)
        certain: Flags = enough & (self.script == LATIN)
        return certain


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The terms of the lexicon, and behind them those of ENGLISH and FOREIGN that are not among them."""

    listed: WordList
    is_foreign: Flags
    """Of each listed word."""

    def read(self, chunk: Chunk) -> tuple[Words, Ints, Evidence]:
        """The words of lower-cased lines, the place of each among the listed ones or -1, and what they tell."""
        others = beyond_ascii(chunk.data)
        letter = lower_case_letters(chunk.data, others)
        script = scripts(chunk, letter, chunk.count(letter), others)
        found = words(chunk, letter, others)
        places = self.listed.find(found.keys)
        counted = _counted(chunk.data[found.begins], found)
        listed = places >= 0
        foreign = listed & self.is_foreign[places]  # place -1 is the last one's, and masked
        sorts = (listed & ~foreign, foreign, ~listed)
        return found, places, Evidence(script, *(_per_text(found.text[s & counted], len(script)) for s in sorts))


def _counted(first: NDArray[np.uint8], found: Words) -> Flags:
    """Words of more than one character that do not begin with a digit, by the first byte of each."""
    single = (found.keys < _ONE_CHARACTER[first >> 4]) & (found.keys > 0)
    counted: Flags = ~single & (first - np.uint8(ord("0")) >= 10)
    return counted


def _per_text(text: Ints, number: int) -> Ints:
    counts: Ints = np.bincount(text, minlength=number)
    return counts


@cache
def vocabulary() -> Vocabulary:
    """Raises what `lexicon` raises."""
    terms = lexicon().terms
    known = set(terms)
    listed = [*terms, *(word for word in (*ENGLISH, *FOREIGN) if word not in known)]
    return Vocabulary(WordList.of(listed), np.isin(np.array(listed), FOREIGN))
