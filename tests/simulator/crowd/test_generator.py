from collections import Counter, defaultdict
from itertools import islice

import phonenumbers
import pytest

from sms_foundation.simulator.crowd.generator import CrowdText, generate_crowd, pace
from sms_foundation.simulator.crowd.texts import CONVERSATIONS, FILLERS, SINGLE_WORDS
from sms_foundation.simulator.monitor.tenants import make_tenants
from sms_foundation.simulator.people import LANGUAGES, Language
from tests.simulator.servers import FakeTime


def texts(seed: int, count: int = 3000, **options: object) -> list[CrowdText]:
    return list(islice(generate_crowd(seed, **options), count))  # type: ignore[arg-type]


class TestGenerateCrowd:
    def test_a_seed_decides_everything(self) -> None:
        assert texts(11) == texts(11)
        assert texts(11) != texts(12)

    def test_all_languages_noise_photos_and_emoji_occur(self) -> None:
        crowd = texts(1)
        shares = Counter(text.language for text in crowd)
        assert set(shares) == {*LANGUAGES, "unknown"}
        assert shares["en"] > shares["es"] > shares["pt"] > shares["unknown"]
        assert any(text.media_urls for text in crowd)
        assert any("🙏" in text.body for text in crowd)
        assert any(text.body in ("Sí", "Sim", "Yes") for text in crowd)

    def test_a_mix_silences_the_languages_it_leaves_out(self) -> None:
        assert {text.language for text in texts(1, 300, mix={"es": 1, "pt": 3})} == {"es", "pt"}

    def test_a_mix_without_weight_is_refused(self) -> None:
        with pytest.raises(ValueError, match="weight"):
            next(generate_crowd(1, mix={"en": 0}))

    def test_a_person_keeps_to_one_language_but_for_noise(self) -> None:
        languages: dict[str, set[str]] = defaultdict(set)
        for text in texts(1):
            languages[text.sender].add(text.language)
        assert all(len(spoken - {"unknown"}) <= 1 for spoken in languages.values())

    def test_most_speakers_are_the_monitors_tenants_and_some_are_strangers(self) -> None:
        tenants = {tenant.texts_from for tenant in make_tenants()}
        typed = {number.lstrip("+") for tenant in make_tenants() for number in tenant.phone_numbers}
        speakers = {text.sender for text in texts(1)}
        strangers = speakers - tenants
        assert len(strangers) == 75
        assert not any(stranger.endswith(number) for stranger in strangers for number in typed)
        assert {text.sender for text in texts(1, strangers=0)} <= tenants

    def test_senders_are_valid_numbers_and_bodies_fit_a_text(self) -> None:
        for text in texts(3, 1000):
            assert phonenumbers.is_valid_number(phonenumbers.parse(text.sender))
            assert len(text.body) <= 1600
            assert "{" not in text.body

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_line_can_be_filled(self, language: Language) -> None:
        values = {name: fillers[0] for name, fillers in FILLERS[language].items()}
        for _, lines in CONVERSATIONS[language]:
            assert all(line.format_map(values) for line in lines)
        assert len(set(SINGLE_WORDS[language])) == len(SINGLE_WORDS[language])


class TestPace:
    async def test_items_come_at_the_rate(self, fake_time: FakeTime) -> None:
        start = fake_time.now_s
        times = [fake_time.now_s - start async for _ in pace(range(5), rate_per_s=4, timing=fake_time.timing)]
        assert times == [0, 0.25, 0.5, 0.75, 1.0]

    async def test_a_late_consumer_is_caught_up_with(self, fake_time: FakeTime) -> None:
        start, times = fake_time.now_s, []
        async for item in pace(range(6), rate_per_s=4, timing=fake_time.timing):
            times.append(fake_time.now_s - start)
            if item == 0:
                fake_time.now_s += 1
        assert times == [0, 1, 1, 1, 1, 1.25]
