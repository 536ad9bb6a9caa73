"""Whether the embedding model can read a document's script, so that a reader is told when it cannot.

A model that was never taught a script still gives vectors for it: of unknown pieces, which are the same for all words,
or of single letters, which mean nothing.  Either shows when a few words of the script are counted and embedded.
Invariant: what is found is of the model and the script, never of a document, so it is asked once for each.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.retriever.ingestion.embeddings import Embeddings

# First and last letter of each script's blocks, its name, and everyday words of it.
_SCRIPTS = (
    (0x0370, 0x03FF, "Greek", "γλώσσα σήμερα άνθρωπος θάλασσα εργασία ερώτηση"),
    (0x0400, 0x052F, "Cyrillic", "сегодня человек договор страховка вопрос погода"),
    (0x0530, 0x058F, "Armenian", "այսօր մարդը ծովը հարցը աշխատանք լեզուն"),
    (0x0590, 0x05FF, "Hebrew", "אנשים עבודה שאלה היום חוזה ביטוח"),
    (0x0600, 0x077F, "Arabic", "اليوم الناس العمل السؤال العقد التأمين"),
    (0x0900, 0x097F, "Devanagari", "मनुष्य समुद्र प्रश्न अनुबंध सरकार विद्यालय"),
    (0x0980, 0x09FF, "Bengali", "মানুষ সমুদ্র প্রশ্ন সরকার বিদ্যালয় চুক্তি"),
    (0x0A00, 0x0A7F, "Gurmukhi", "ਮਨੁੱਖ ਸਮੁੰਦਰ ਸਵਾਲ ਸਰਕਾਰ ਸਕੂਲ ਭਾਸ਼ਾ"),
    (0x0A80, 0x0AFF, "Gujarati", "માણસ સમુદ્ર પ્રશ્ન સરકાર શાળા ભાષા"),
    (0x0B80, 0x0BFF, "Tamil", "மனிதன் கடல் கேள்வி அரசு பள்ளி மொழி"),
    (0x0C00, 0x0C7F, "Telugu", "మనిషి సముద్రం ప్రశ్న ప్రభుత్వం పాఠశాల భాష"),
    (0x0C80, 0x0CFF, "Kannada", "ಮನುಷ್ಯ ಸಮುದ್ರ ಪ್ರಶ್ನೆ ಸರ್ಕಾರ ಶಾಲೆ ಭಾಷೆ"),
    (0x0D00, 0x0D7F, "Malayalam", "മനുഷ്യൻ കടൽ ചോദ്യം സർക്കാർ വിദ്യാലയം ഭാഷ"),
    (0x0E00, 0x0E7F, "Thai", "ประกันภัย โรงเรียน รัฐบาล คำถาม ทะเล ภาษา"),
    (0x0E80, 0x0EFF, "Lao", "ໂຮງຮຽນ ລັດຖະບານ ຄຳຖາມ ທະເລ ພາສາ ວຽກງານ"),
    (0x1000, 0x109F, "Burmese", "ကျောင်း အစိုးရ မေးခွန်း ပင်လယ် ဘာသာ အလုပ်"),
    (0x10A0, 0x10FF, "Georgian", "ადამიანი ზღვა კითხვა მთავრობა სკოლა ენა"),
    (0x1780, 0x17FF, "Khmer", "សាលារៀន រដ្ឋាភិបាល សំណួរ សមុទ្រ ភាសា ការងារ"),
    (0x3040, 0x30FF, "Japanese kana", "ありがとう コンピューター しかし インターネット ください ゆっくり"),
    (0x3400, 0x9FFF, "Chinese", "们 这 说 还 没 对 软 网 请 问"),
    (0xAC00, 0xD7AF, "Korean", "사람 바다 질문 정부 학교 보험"),
)
_STARTS = [first for first, *_ in _SCRIPTS]
# Signs that stand for a syllable or a word: one token each is all that can be hoped for.
_SYLLABIC = ("Chinese", "Korean", "Japanese kana")
_SAMPLE_CHARACTERS = 20_000
# Of the letters: less is a quotation.
_LEAST_SHARE = 0.2
# Tokens of a model that knows an alphabet hold more of its letters than these.
_LEAST_LETTERS = {True: 0.8, False: 1.6}
# Words that have one and the same vector are unknown.
_MOST_ALIKE = 0.3


@dataclass(frozen=True, slots=True)
class _Script:
    name: str
    words: tuple[str, ...]


@dataclass(slots=True)
class Languages:
    """What each model was found to know."""

    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    async def notice(self, text: str, model_digest: str, embeddings: Embeddings) -> str:
        """A sentence about the scripts of the text that the model does not know; empty when it knows all.

        Raises what the embedder raises.
        """
        unknown = [
            f"{script.name} ({share:.0%} of the letters)"
            for script, share in _shares(text)
            if not await self._knows(script, model_digest, embeddings)
        ]
        if not unknown:
            return ""
        return (
            f"The embedding model does not know {' or '.join(unknown)}: keywords find this document, its meaning does "
            "not. Serve a multilingual embedding model to search it by meaning."
        )

    async def _knows(self, script: _Script, model_digest: str, embeddings: Embeddings) -> bool:
        key = (model_digest, script.name)
        if key not in self._known:
            letters = sum(map(len, script.words)) / max(1, sum(await embeddings.count(script.words)))
            vectors = (await embeddings.documents(script.words)).packed
            pairs = list(itertools.combinations(vectors, 2))
            alike = sum(1 for one, other in pairs if one == other) / len(pairs)
            self._known[key] = letters >= _LEAST_LETTERS[script.name in _SYLLABIC] and alike <= _MOST_ALIKE
        return self._known[key]


def _shares(text: str) -> Sequence[tuple[_Script, float]]:
    """The scripts of the text, Latin apart, with their share of its letters; those that are more than quoted."""
    if text.isascii():
        return ()
    # Evenly over the text: the front page of a report may be in another language.
    step = max(1, len(text) // _SAMPLE_CHARACTERS)
    letters = [character for character in text[::step] if character.isalpha()]
    counts = Counter(at for character in letters if (at := _script_of(ord(character))) is not None)
    return [
        (_Script(_SCRIPTS[at][2], tuple(_SCRIPTS[at][3].split())), count / len(letters))
        for at, count in counts.most_common()
        if count >= _LEAST_SHARE * len(letters)
    ]


def _script_of(code: int) -> int | None:
    at = bisect.bisect_right(_STARTS, code) - 1
    return at if at >= 0 and code <= _SCRIPTS[at][1] else None
