#!/usr/bin/env python3
"""Build the lexicon of the language detector from the word lists of `wordfreq`.

Needs `pip install wordfreq==3.1.1` in an environment of its own; the service does not need it at run time. The output
depends on nothing but that release and the constants below: two runs write the same bytes with the same zlib.

File format: `sms_foundation.enrichment.language.lexicon` documents it, since that module reads it.
Licence of the output: CC-BY-SA-4.0, see `ATTRIBUTION.md` beside the data file.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import heapq
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wordfreq import get_frequency_dict

DEFAULT_OUTPUT = Path(__file__).parents[1] / "src/sms_foundation/enrichment/language/data/lexicon.gz"

# One column letter per language, in the order of the detector's scores. Capitals answer, small letters only warn off.
TARGETS = {"en": "E", "es": "S", "pt": "P"}
LISTED_DECOYS = {
    "ca": "c", "de": "d", "fil": "f", "fr": "r", "id": "i", "it": "t", "nl": "n", "pl": "l", "ro": "o", "sv": "s",
    "tr": "u", "vi": "v",
}  # fmt: skip
# wordfreq has no list for these. Galician and Haitian Creole are respelled from a relative, all four get the common
# words below.
SEEDED_DECOYS = {"gl": "g", "ht": "h", "so": "m", "sq": "q"}
COLUMNS = TARGETS | LISTED_DECOYS | SEEDED_DECOYS

# Sizes at which the file stays near 1.4 MB. The detector's cross-validated error is flat around them: floors of 1e-7 to
# 2e-7, 9,000 to 26,000 n-grams, steps of 0.25 to 0.5, and shares of 0.1 to 0.6 differ by less than their noise.
TARGET_FLOOR = 1.2e-7  # share of running words from which a word of a target is kept: 80,000 to 105,000 words each
SHARED_FLOOR = 4e-8  # frequency still noted for a target's word in another target
DECOY_FLOOR = 1e-6  # and in a decoy
DECOY_WORDS = 3_000  # most common words of each decoy, kept whether a target has them or not
BARE_SHARE = 0.5  # of an accented word's use that its spelling without accents gets: people text without accents
BARE_FLOOR = 4e-7  # frequency of an accented word from which its bare spelling is listed

NGRAM_ORDER = 4
NGRAMS = 9_000
NGRAM_WORDS = 30_000  # most frequent words of each language that the n-grams are counted on

LEVELS = "".join(chr(c) for c in range(0x23, 0x7F) if chr(c) != "\\")  # printable, and nothing JSON has to escape
STEP = 0.35  # nats between two levels, in both tables

LONGEST_WORD = 30
ELONGATED = re.compile(r"(.)\1\1")  # "holaaa": the detector shortens these before it looks them up

SEEDS = {
    "gl": (
        "unha dunha nunha cunha dun nun cun algunha ningunha ningún algún algunhas algúns outra outro non moi máis mais"
        " tamén xa hai ten teñen teño tiña tiñan teñas está están estaba foron fun fomos foi fose son eran era ser"
        " estar facer fai fago fan fixo dicir di dixo dixen ir vai van vou vén vir veu ver vin viu saber sabe sei poder"
        " pode poden podo puido querer quere quero queren quixo dar deu dou xente muller mulleres home homes fillo"
        " filla neno nena nenos rapaz rapaza amigo traballo traballar casa cidade vila lugar día días noite mañá hoxe"
        " onte agora sempre nunca nada todo toda todos todas cada mesmo mesma outros outras algo alguén ninguén quen"
        " que cando como onde por para pola polo polas polos coa co coas cos na no nas nos da do das dos á ó ao aos ás"
        " desde dende ata sen baixo sobre entre contra segundo tras eu ti el ela nós vós eles elas vostede vostedes"
        " lle lles che me te se o a os as lo la meu miña teu túa seu súa noso nosa voso vosa seus súas este esta isto"
        " ese esa iso aquel aquela aquilo deste desta disto dese desa diso neste nesta niso grande pequeno bo boa bos"
        " novo nova vello vella primeiro primeira último dous dúas tres catro cinco seis sete oito nove dez ano anos"
        " tempo vez veces cousa cousas parte xeito vida mundo país goberno galego galega galegos galegas galicia"
        " lingua libro escola auga mar terra rúa porta mesa mellor peor maior menor entón despois antes mentres aínda"
        " tan tanto pouco pouca moito moita moitos moitas bastante demasiado aquí alí alá acó ben mal si porque se"
        " pero nin ou e senón xunto preto lonxe cara tería estea sexa sexan houbo había haberá fora xogar xogo"
        " coñecer coñezo deixar deixou chegar chegou pasar pasou falar fala falou levar leva poñer pon pór saír saíu"
        " vivir vive vivía seguir segue sucedeu acontece gústame grazas graciñas saúdo bos días benvido axuda"
    ),
    "ht": (
        "mwen ou li nou yo se te pa ki nan ak pou gen sou la lan an a yon sa kap ap fè di ale vini bay pran konnen moun"
        " peyi ayiti ayisyen kreyòl tout anpil plis men si lè kote kijan poukisa kisa kiyès kilè paske oswa osinon"
        " avèk san depi jiska pandan apre avan anvan devan dèyè anba anwo anndan deyò bò kont pami lòt menm chak kèk"
        " okenn anyen toujou janm jamè deja ankò poko fèk sot pral ta dwe kapab kab ka vle bezwen renmen wè tande pale"
        " manje bwè dòmi travay lekòl legliz kay lari vil lavil lanmè dlo tè solèy lalin jou nwit maten aswè jodi"
        " yè demen kounye kounya ane mwa semèn lendi madi mèkredi jedi vandredi samdi dimanch timoun tifi tigason gason"
        " fanm granmoun papa manman frè sè zanmi fanmi non wi mèsi bonjou bonswa orevwa souple padon eskize bon move"
        " gwo piti bèl lèd nouvo vye cho frèt wouj blan nwa vèt jòn ble youn de twa kat senk sis sèt uit nèf dis"
        " premye dezyèm dènye prezidan gouvènman leta lapolis jistis lalwa dwa lavi lanmò bondye jezi kwè priye chante"
        " jwe kouri mache chita kanpe leve monte desann antre soti rive kite rete tounen voye resevwa achte vann peye"
        " lajan goud dola pri bagay pwoblèm solisyon repons kesyon liv pawòl lang istwa kilti mizik atis ekip match"
        " medya nouvèl jounal jounalis jounalis enfòmasyon sante maladi doktè lopital medikaman etidyan pwofesè"
        " elèv inivèsite kominote popilasyon òganizasyon nasyon nasyonal entènasyonal amerik etazini lafrans"
        " gras ladan sitou selman sètadi konsa kidonk alò poutèt malgre swa nenpòt chante yo'n m'ap l'ap n'ap"
    ),
    "so": (
        "waa iyo ka ku oo ee ah in uu ay si la u soo ayaa waxaa waxay wuxuu waxaan ayuu ayay inuu inay inaan kale dalka"
        " soomaaliya soomaali muqdisho magaalada magaalo dowladda dowlad madaxweynaha wasiirka ciidamada dadka dad qof"
        " nin naag wiil gabar caruurta carruurta guri guriga biyo cunto lacag shaqo iskuul jaamacadda sanad sannadka"
        " sano bil maalin maanta shalay berri habeen subax galab xilli xilliga wakhti waqti markii marka mar marna"
        " hadda kadib ka dib hore ugu aad badan yar weyn wanaagsan xun cusub ilaa iyada isaga aniga adiga annaga idinka"
        " iyaga kan tan kuwa kuwan taas kaas halkaas halkan meel meesha maxaa maxay waayo sababta goorma xagee sidee"
        " miyaa ma maya haa laakiin laakin hase ama balse hadii haddii inkasta sababtoo waxa waxba cid cidna mid labo"
        " laba saddex afar shan lix toddoba siddeed sagaal toban boqol kun malyan koox kooxda ciyaar kubadda dhex"
        " dhexe gudaha dibadda hoos kor dul dhinaca xagga agagaarka bartamaha waqooyi koonfur bari galbeed caalamka"
        " adduunka aduunka dunida waddanka wadanka gobolka degmada tuulada badda webi buur geed xoolo geel lo' adhi"
        " ahayd ahaa tahay yahay yihiin ahaayeen noqday noqon leh leeyahay leedahay leeyihiin jiray jira jirta jirtay"
        " sheegay sheegtay yiri tidhi dhahay dhacay tegay yimid timid galay baxay qaaday siiyay sameeyay bilaabay"
        " dhintay dhashay dhalatay dilay arkay maqlay ogaaday doonayaa rabaa karaa kartaa heli helay walba kasta kale"
        " isku iska kuma kama lagu lagala loogu kaga kula wuu way wey mahadsanid fiican nabad salaan subax"
        " dhaqaalaha siyaasadda waxbarashada caafimaadka diinta islaamka qur'aanka ilaahay allaah carabta dhulka"
    ),
    "sq": (
        "të në dhe e i për me një nga është ka së që si u më se ishte do nuk janë ky kjo ai ajo ata ato unë ti ne ju"
        " mua ty neve juve tij saj tyre im jote juaj ynë ka kanë kishte kishin kam kemi keni jam jemi jeni ishin qe"
        " mund duhet duke pa por ose nëse kur ku kush çfarë cili cila pse sepse pasi para pas mbi nën midis ndaj"
        " drejt gjatë deri prej tek te kundër rreth jashtë brenda shumë pak më tepër vetëm edhe gjithashtu tani sot"
        " nesër dje gjithmonë kurrë asnjë asgjë gjithë çdo disa tjetër tjera tjerë vetë po jo mirë keq madh madhe"
        " vogël vogla ri re vjetër parë dytë fundit dy tre katër pesë gjashtë shtatë tetë nëntë dhjetë qind mijë"
        " milion vit vite viti vitin muaj javë ditë ditën natë orë kohë kohën herë jetë jetën botë botën vend vendi"
        " vendin qytet qyteti shtet shteti shqipëri shqipërisë shqipëria kosovë kosovës kosova tiranë tiranës"
        " shqiptar shqiptare shqip gjuhë gjuha njeri njerëz njerëzit burrë grua gruaja fëmijë fëmijët djalë vajzë"
        " shtëpi shtëpia shtëpinë punë puna punën shkollë ujë bukë libër libri rrugë rruga makinë pemë det mal"
        " qeveria qeverisë kryeministri presidenti ministri ligji partia policia luftë lufta paqe drejtë popull"
        " popullit ekonomik politike kombëtar ndërkombëtar them thotë tha thonë bëj bën bëri bërë bëhet shkoj shkon"
        " shkoi vij vjen erdhi shoh sheh pashë di dini dua doni dëshiron jap jep dha marr merr mori flas flet ha"
        " pi fle lexoj shkruaj shkruar jetoj punoj mësoj kuptoj filloi mbaroi vdiq lindi lindur quhet quajtur"
        " përdoret përdorur faleminderit mirëdita mirupafshim ju lutem përshëndetje nën ndër sipas dhënë marrë"
        " lojë loja ekip ekipi ndeshje gol filmi këngë këngëtar muzikë lajme gazetë fjalë fjala pyetje përgjigje"
    ),
}  # fmt: skip

# Spelling changes, applied in order to `word$`, that bring a relative's word close to the decoy's.
GALICIAN = [
    ("ções", "cións"), ("ção", "ción"), ("sões", "sións"), ("são", "sión"), ("ões", "óns"), ("ãos", "áns"),
    ("ão", "án"), ("nh", "ñ"), ("lh", "ll"), ("ss", "s"), ("j", "x"), ("ge", "xe"), ("gi", "xi"), ("gé", "xé"),
    ("gí", "xí"), ("ça", "za"), ("ço", "zo"), ("çu", "zu"), ("ze", "ce"), ("zi", "ci"), ("qua", "ca"), ("ê", "é"),
    ("ô", "ó"), ("â", "á"), ("à", "á"), ("m$", "n$"),
]  # fmt: skip
HAITIAN = [
    ("tions", "syon"), ("tion", "syon"), ("ssion", "syon"), ("eaux", "o"), ("eau", "o"), ("aux", "o"), ("au", "o"),
    ("oi", "wa"), ("qu", "k"), ("ch", "CH"), ("ce", "se"), ("ci", "si"), ("cé", "se"), ("c", "k"), ("CH", "ch"),
    ("ç", "s"), ("ph", "f"), ("th", "t"), ("ss", "s"), ("tt", "t"), ("ll", "l"), ("nn", "n"), ("mm", "m"),
    ("pp", "p"), ("ff", "f"), ("rr", "r"), ("ais", "è"), ("ait", "è"), ("ai", "è"), ("ê", "è"), ("é", "e"),
    ("ge", "je"), ("gi", "ji"), ("eur", "è"), ("eux", "e"), ("x", "ks"), ("y", "i"),
]  # fmt: skip


def main() -> None:
    """Write the lexicon and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "output", nargs="?", type=Path, default=DEFAULT_OUTPUT, help="file to write (default: the shipped one)"
    )
    output: Path = parser.parse_args().output
    frequencies = all_frequencies()
    words = word_lines(frequencies)
    ngrams = ngram_lines(frequencies)
    write(output, words, ngrams)
    print(f"{output}: {len(words)} words, {len(ngrams)} n-grams, {output.stat().st_size} bytes")


def all_frequencies() -> dict[str, dict[str, float]]:
    """Word to share of running words, for every language, most frequent word first."""
    frequencies = {language: listed_frequencies(language) for language in COLUMNS if language not in SEEDED_DECOYS}
    frequencies["gl"] = merge(respell(frequencies["pt"], GALICIAN, 12_000), seeded_frequencies(SEEDS["gl"]))
    frequencies["ht"] = merge(respell(frequencies["fr"], HAITIAN, 4_000), seeded_frequencies(SEEDS["ht"]))
    frequencies["so"] = seeded_frequencies(SEEDS["so"])
    frequencies["sq"] = seeded_frequencies(SEEDS["sq"])
    return frequencies


def listed_frequencies(language: str) -> dict[str, float]:
    """A wordfreq list without digits, signs, foreign scripts, elongated words and the rarer possessives."""
    listed = get_frequency_dict(language, wordlist="best").items()
    return {
        word: frequency
        for word, frequency in sorted(listed, key=lambda item: (-item[1], item[0]))
        if is_plain_word(word) and (frequency > 1e-5 or not word.endswith("'s"))
    }


def is_plain_word(word: str) -> bool:
    """Whether a word consists of Latin letters (Vietnamese included) and inner apostrophes."""
    return (
        len(word) <= LONGEST_WORD
        and word.replace("'", "").isalpha()
        and all(c < "\u0250" or "\u1e00" <= c < "\u1f00" for c in word)
        and not ELONGATED.search(word)
    )


def seeded_frequencies(text: str) -> dict[str, float]:
    """Frequencies for a hand-written list of common words: Zipf's law in the order given, a half of all text."""
    words = list(dict.fromkeys(text.split()))
    harmonic = sum(1 / (rank + 10) for rank in range(len(words)))
    return {word: 0.5 / harmonic / (rank + 10) for rank, word in enumerate(words)}


def respell(frequencies: Mapping[str, float], changes: Iterable[tuple[str, str]], limit: int) -> dict[str, float]:
    """The most frequent `limit` words in a related language's spelling, at half their frequency."""
    respelled: dict[str, float] = collections.defaultdict(float)
    for word, frequency in list(frequencies.items())[:limit]:
        text = f"{word}$"
        for old, new in changes:
            text = text.replace(old, new)
        respelled[text.removesuffix("$")] += frequency / 2
    return dict(respelled)


def merge(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The larger of both frequencies, most frequent first."""
    merged = {word: max(first.get(word, 0.0), second.get(word, 0.0)) for word in first.keys() | second.keys()}
    return dict(sorted(merged.items(), key=lambda item: (-item[1], item[0])))


def without_accents(word: str) -> str:
    """The word as typed on a keyboard without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def with_bare_spellings(frequencies: Mapping[str, float]) -> dict[str, float]:
    """Frequencies in which the bare spelling of an accented word has a share of the word's."""
    result = dict(frequencies)
    for word, frequency in frequencies.items():
        bare = without_accents(word)
        if bare != word and frequency >= BARE_FLOOR:
            result[bare] = result.get(bare, 0.0) + frequency * BARE_SHARE
    return result


def word_lines(frequencies: Mapping[str, Mapping[str, float]]) -> list[str]:
    """`word TAB (column letter, level)*` for every word worth keeping, in byte order."""
    tables = {language: with_bare_spellings(table) for language, table in frequencies.items()}
    kept: set[str] = set()
    for language, table in tables.items():
        if language in TARGETS:
            kept.update(word for word, frequency in table.items() if frequency >= TARGET_FLOOR)
        else:
            kept.update(heapq.nsmallest(DECOY_WORDS, table, key=lambda word: (-table[word], word)))
    return [f"{word}\t{word_cells(word, tables)}" for word in sorted(kept, key=str.encode)]


def word_cells(word: str, tables: Mapping[str, Mapping[str, float]]) -> str:
    """Column letter and level for each language in which the word is frequent enough to note."""
    cells = []
    for language, letter in COLUMNS.items():
        frequency = tables[language].get(word, 0.0)
        if frequency >= (SHARED_FLOOR if language in TARGETS else DECOY_FLOOR):
            cells.append(letter + level(frequency))
    return "".join(cells)


def level(probability: float) -> str:
    """One character for a probability: its logarithm in steps of `STEP` nats, the first for certainty."""
    return LEVELS[min(len(LEVELS) - 1, round(-math.log(probability) / STEP))]


def ngram_lines(frequencies: Mapping[str, Mapping[str, float]]) -> list[str]:
    """`n-gram TAB level per column` for the most frequent n-grams, in byte order.

    A row holds each language's smoothed probability of the last character after the ones before it, so that a reader
    needs nothing but the longest row that matches.
    """
    counts = {language: ngram_counts(table) for language, table in frequencies.items()}
    weight: dict[str, float] = collections.defaultdict(float)
    for language, table in counts.items():
        letters = sum(count for ngram, count in table.items() if len(ngram) == 1)
        for ngram, count in table.items():
            weight[ngram] += (3.0 if language in TARGETS else 1.0) * count / letters
    kept = set(heapq.nsmallest(NGRAMS, weight, key=lambda ngram: (-weight[ngram], ngram)))
    kept.update(ngram for ngram in weight if len(ngram) == 1)  # so that every letter of these languages has a row
    kept.discard("^")  # nothing comes before it
    models = [WittenBell(counts[language]) for language in COLUMNS]
    return [
        f"{ngram}\t{''.join(level(model.probability(ngram)) for model in models)}"
        for ngram in sorted(kept, key=str.encode)
    ]


def ngram_counts(frequencies: Mapping[str, float]) -> dict[str, float]:
    """Counts of 1- to `NGRAM_ORDER`-grams of `^word$`, a word weighing the root of its frequency."""
    words = list(frequencies.items())[:NGRAM_WORDS]
    rarest = math.sqrt(words[-1][1])
    counts: dict[str, float] = collections.defaultdict(float)
    for word, frequency in words:
        weight = math.sqrt(frequency) / rarest
        bare = without_accents(word)
        for ngram in substrings(f"^{word}$"):
            counts[ngram] += weight
        if bare != word:
            for ngram in substrings(f"^{bare}$"):
                counts[ngram] += weight * BARE_SHARE
    return counts


def substrings(text: str) -> Iterator[str]:
    """Every substring of 1 to `NGRAM_ORDER` characters."""
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - NGRAM_ORDER), end):
            yield text[start:end]


class WittenBell:
    """One language's character probabilities, each order smoothed with the one below (Witten and Bell 1991)."""

    def __init__(self, counts: Mapping[str, float]) -> None:
        self._counts = counts
        self._followers: dict[str, int] = collections.defaultdict(int)  # different characters seen after a history
        self._total: dict[str, float] = collections.defaultdict(float)
        for ngram, count in counts.items():
            if ngram != "^":
                self._followers[ngram[:-1]] += 1
                self._total[ngram[:-1]] += count

    def probability(self, ngram: str) -> float:
        """Probability of the last character after the ones before it; never zero."""
        estimate = 1 / 5_000  # any character at all
        for start in range(len(ngram) - 1, -1, -1):
            history = ngram[start:-1]
            if history in self._total:
                kinds = self._followers[history]
                estimate = (self._counts.get(ngram[start:], 0.0) + kinds * estimate) / (self._total[history] + kinds)
        return estimate


def write(output: Path, words: list[str], ngrams: list[str]) -> None:
    """Write header and both tables, compressed, without a time stamp."""
    word_table, ngram_table = (("".join(f"\n{line}" for line in lines) + "\n").encode() for lines in (words, ngrams))
    header = {
        "format": 1,
        "languages": list(COLUMNS),
        "columns": "".join(COLUMNS.values()),
        "levels": LEVELS,
        "step": STEP,
        "order": NGRAM_ORDER,
        "words_bytes": len(word_table),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(json.dumps(header).encode() + word_table + ngram_table)


if __name__ == "__main__":
    main()
