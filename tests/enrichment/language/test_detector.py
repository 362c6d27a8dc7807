"""Verdicts on texts as tenants write them. Accuracy at large is measured by `benchmarks/language.py`, not here."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sms_foundation.enrichment.language import detect
from sms_foundation.enrichment.language.detector import weigh
from sms_foundation.enrichment.language.tokens import LONGEST_TEXT

AUTHORED = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "fixtures/language/authored_smoke.jsonl").read_text("utf-8").splitlines()
]
TENANT_TEXTS = [row for row in AUTHORED if row["label"] != "unknown"]
NOISE = [row for row in AUTHORED if row["label"] == "unknown"]


def share_right(rows: list[dict[str, str]]) -> float:
    return sum(detect(row["text"])[0] == row["label"] for row in rows) / len(rows)


class TestDetect:
    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("Sí", "es"),
            ("si", "es"),
            ("Gracias", "es"),
            ("mañana", "es"),
            ("Hola", "es"),
            ("Sim", "pt"),
            ("não", "pt"),
            ("Obrigada!", "pt"),
            ("oi", "pt"),
            ("vlw", "pt"),
            ("Yes", "en"),
            ("yup", "en"),
            ("Thanks", "en"),
            ("tomorrow", "en"),
        ],
    )
    def test_a_single_word_decides(self, text: str, language: str) -> None:
        assert detect(text)[0] == language

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "ok",
            "OK.",
            "no",
            "4B",
            "$1,250",
            "+1 203 555 0147",
            "👍🏽",
            "🙏🙏 ❤️",
            "?!",
            "STOP",
            "HELP",
            "jajaja",
            "kkkkk",
            "https://example.com/pay?x=hola",
            "ana.lopez@example.com",
            "IMG_2041.jpg",
            "wifi",
            "hotel",
            "asdfgh",
            "Rosa Perez",
            "45 Elm Ave, New Haven CT",
            "12 Main St Apt 3",
        ],
    )
    def test_what_belongs_to_no_language_is_unknown(self, text: str) -> None:
        assert detect(text) == ("unknown", 0.0)

    @pytest.mark.parametrize(
        "text",
        [
            "Je n'ai plus d'eau chaude depuis hier soir",
            "Die Heizung ist seit gestern kaputt",
            "Il riscaldamento non funziona più",
            "Non teño auga quente dende onte pola noite",
            "No tinc aigua calenta des d'ahir al vespre",
            "Mwen pa gen dlo cho nan kay la depi yè swa",
            "Nuk kam ujë të ngrohtë që nga dje",
            "Guriga biyo kulul kuma jiraan ilaa shalay",
            "Wala po kaming mainit na tubig mula kahapon",
            "Tôi không có nước nóng từ hôm qua",
            "Toi khong co nuoc nong tu hom qua",
            "Nie mamy ciepłej wody od wczoraj",
            "У нас нет горячей воды",
            "我们没有热水",
            "ليس لدينا ماء ساخن",
        ],
    )
    def test_other_languages_are_unknown(self, text: str) -> None:
        assert detect(text)[0] == "unknown"

    @pytest.mark.parametrize("text", ["claro", "igualmente", "ola", "vale", "por favor"])
    def test_what_two_of_the_languages_share_is_unknown(self, text: str) -> None:
        assert detect(text)[0] == "unknown"

    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("please send the money order, la puerta ya no cierra y no hay agua", "es"),
            ("sorry ya no puedo pagar hoy", "es"),
            ("o super nao veio, manda o link do payment por favor", "pt"),
            ("Juan said the heat is off again in apt 4B", "en"),
        ],
    )
    def test_borrowed_words_do_not_outvote_the_rest(self, text: str, language: str) -> None:
        assert detect(text)[0] == language

    @pytest.mark.parametrize(
        ("plain", "written"),
        [
            ("hola", "holaaaaaa"),
            ("sim", "siiiiim"),
            ("yes", "YESSSSS"),
            ("gracias", "GRACIAS!!!"),
            ("não", "na\u0303o"),  # decomposed
            ("don't worry about it", "don’t worry about it"),
        ],
    )
    def test_emphasis_and_encoding_do_not_change_the_language(self, plain: str, written: str) -> None:
        assert detect(written)[0] == detect(plain)[0] != "unknown"

    def test_tenant_texts_are_recognised(self) -> None:
        assert share_right(TENANT_TEXTS) >= 0.99

    def test_tenant_texts_are_never_given_another_language(self) -> None:
        wrong = [row["text"] for row in TENANT_TEXTS if detect(row["text"])[0] not in (row["label"], "unknown")]
        assert wrong == []

    def test_case_does_not_matter(self) -> None:
        shouted = [row for row in TENANT_TEXTS if detect(row["text"].upper()) != detect(row["text"].lower())]
        assert shouted == []

    def test_noise_is_unknown(self) -> None:
        assert share_right(NOISE) >= 0.97

    def test_an_opening_question_mark_is_spanish(self) -> None:
        assert detect("que hora")[0] == "unknown"
        assert detect("¿que hora?")[0] == "es"
        assert detect("¿?")[0] == "unknown"

    def test_a_long_text_is_more_certain_than_its_ambiguous_beginning(self) -> None:
        assert detect("no funciona la calefaccion desde ayer")[1] > detect("no funciona")[1]

    @given(st.text(st.characters(), max_size=300))
    @example("\ud800\udfff hola \udc80")
    @example("\x00gracias\x00por\x00todo\x00")
    @example("'" * 50)
    @example("\n\t^$")
    def test_any_string_has_a_verdict_in_range(self, text: str) -> None:
        language, confidence = detect(text)
        assert language in {"en", "es", "pt", "unknown"}
        assert 0.0 <= confidence <= 1.0
        assert confidence == round(confidence, 2)
        assert (confidence == 0.0) == (language == "unknown")
        assert detect(text) == (language, confidence)

    @pytest.mark.parametrize("text", ["a" * 100_000, "ab " * 33_000, "é" * 100_000, "1 " * 50_000, "\ud800" * 100_000])
    def test_a_huge_text_has_a_verdict(self, text: str) -> None:
        assert detect(text)[0] in {"en", "es", "pt", "unknown"}

    @settings(max_examples=20)
    @given(st.text(max_size=50))
    def test_what_follows_the_first_characters_is_not_looked_at(self, tail: str) -> None:
        text = ("hoy no hay agua en mi casa. " * 100)[:LONGEST_TEXT]
        assert detect(text + tail) == detect(text)

    def test_threads_agree(self) -> None:
        texts = [row["text"] for row in AUTHORED]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(detect, texts)) == [detect(text) for text in texts]


class TestWeigh:
    def test_nothing_to_weigh_is_none(self) -> None:
        assert weigh("ok 👍") is None

    def test_a_disagreeing_word_counts_against(self) -> None:
        agreeing, mixed = weigh("bueno gracias"), weigh("bueno obrigado")
        assert agreeing is not None
        assert mixed is not None
        assert agreeing.against < mixed.against

    def test_unlisted_words_lower_the_known_share(self) -> None:
        evidence = weigh("hola zxqwlk")
        assert evidence is not None
        assert (evidence.words, evidence.known_share) == (2, 0.5)
