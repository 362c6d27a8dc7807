"""The counting: nothing in a flawless record, and exactly the flaw in one that was doctored."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from chaos.count import Count, count_all
from chaos.plan import make_plan
from chaos.record import Arrival, Evidence, PhoneText, Send, Stored, WebhookTry
from chaos.report import Run, as_json, failures, table, tell

PHONE = "+14155550100"
OTHER = "+14155550101"


def flawless() -> Evidence:
    """Two texts and four sends of one phone and a text of another, all of which went as they should."""
    evidence = Evidence(
        texts=[PhoneText(f"SM{place}", PHONE, place, is_acknowledged=True) for place in range(2)]
        + [PhoneText("SM9", OTHER, 0, is_acknowledged=False)],
        webhooks=[WebhookTry(f"SM{place}", "text", 200, 40.0) for place in range(2)]
        + [WebhookTry("SM9", "text", 503, 10_000.0), WebhookTry("SM9", "text", None, 5_000.0)],
        history=[Stored(f"in-{place}", PHONE, f"SM{place}", is_inbound=True, status="received") for place in range(2)],
    )
    for priority, place in (("normal", 0), ("urgent", 0), ("normal", 1), ("bulk", 0)):
        number = len(evidence.sends)
        body, message_id = f"{priority} {place}", f"out-{number}"
        evidence.sends.append(Send(f"key-{number}", PHONE, priority, place, body, [message_id], tries=1))
        evidence.arrivals.append(Arrival(number, "twilio", f"SMout{number}", PHONE, body, has_arrived=True))
        evidence.history.append(Stored(message_id, PHONE, f"SMout{number}", is_inbound=False, status="delivered"))
        evidence.see(message_id, "sent", 1, 2)
        evidence.see(message_id, "delivered", 3, 4)
    return evidence


def wrong(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    return {count.claim: count.found for count in count_all(evidence) if not count.is_zero}


def show(evidence: Evidence, index: int, status: str) -> None:
    evidence.history[2 + index].status = status


def lose_a_text(evidence: Evidence) -> None:
    del evidence.history[0]


def lose_a_text_for_good(evidence: Evidence) -> None:
    evidence.is_reconciled = True


def store_a_text_twice(evidence: Evidence) -> None:
    evidence.history.append(dataclasses.replace(evidence.history[1], id="in-2"))


def invent_a_text(evidence: Evidence) -> None:
    evidence.history.append(Stored("in-2", PHONE, "SM77", is_inbound=True, status="received"))


def swap_stored_texts(evidence: Evidence) -> None:
    evidence.history[0], evidence.history[1] = evidence.history[1], evidence.history[0]


def accept_nothing(evidence: Evidence) -> None:
    evidence.sends.append(Send("key-9", OTHER, "normal", 0, "never"))


def make_two_messages_of_one_key(evidence: Evidence) -> None:
    evidence.sends[0].message_ids.append("out-0-again")
    evidence.history.append(Stored("out-0-again", PHONE, None, is_inbound=False, status="failed"))


def leave_a_send_on_its_way(evidence: Evidence) -> None:
    show(evidence, 3, "sent")


def forget_a_send(evidence: Evidence) -> None:
    evidence.arrivals.pop()
    evidence.history.pop()


def send_twice(evidence: Evidence) -> None:
    evidence.arrivals.append(dataclasses.replace(evidence.arrivals[0], number=4, provider="messagebird", message="mb1"))


def send_what_nobody_asked_for(evidence: Evidence) -> None:
    evidence.arrivals.append(Arrival(4, "twilio", "SMghost", OTHER, "who are you?", has_arrived=True))


def swap_arrivals(evidence: Evidence) -> None:
    evidence.arrivals[0].number, evidence.arrivals[2].number = 2, 0


def take_a_final_state_back(evidence: Evidence) -> None:
    evidence.see("out-0", "sent", 5, 6)


def turn_delivered_into_failed(evidence: Evidence) -> None:
    evidence.see("out-0", "undelivered", 4.5, 6)


def call_delivered_what_never_arrived(evidence: Evidence) -> None:
    evidence.arrivals[3].has_arrived = False


def call_failed_what_arrived(evidence: Evidence) -> None:
    show(evidence, 0, "failed")


def name_another_provider_id(evidence: Evidence) -> None:
    evidence.history[2].sid = "SMelsewhere"


def name_the_provider_id_of_an_equal_text(evidence: Evidence) -> None:
    ask_for_the_same_words_again(evidence)
    evidence.history[-1].sid = "SMout3"


def send_equal_texts_thrice(evidence: Evidence) -> None:
    ask_for_the_same_words_again(evidence)
    evidence.arrivals.append(Arrival(5, "twilio", "SMout5", PHONE, "bulk 0", has_arrived=True))


def ask_for_the_same_words_again(evidence: Evidence) -> None:
    evidence.sends.append(Send("key-4", PHONE, "bulk", 1, "bulk 0", ["out-4"]))
    evidence.arrivals.append(Arrival(4, "twilio", "SMout4", PHONE, "bulk 0", has_arrived=True))
    evidence.history.append(Stored("out-4", PHONE, "SMout4", is_inbound=False, status="delivered"))


def leave_work(evidence: Evidence) -> None:
    evidence.open_work["send_message"] = 2


def leave_a_text_without_language(evidence: Evidence) -> None:
    evidence.history[0].is_understood = False


def answer_late(evidence: Evidence) -> None:
    evidence.webhooks.append(WebhookTry("SM1", "status", 204, 15_001.0))


def refuse_a_request(evidence: Evidence) -> None:
    evidence.refusals.append("GET /conversations/+14155550100: 500 {}")


def die(evidence: Evidence) -> None:
    evidence.accidents.append("worker ended by itself, exit status 1")


def never_settle(evidence: Evidence) -> None:
    evidence.unsettled.append("out-9 is queued")


Flaw = Callable[[Evidence], None]
FLAWS: list[tuple[Flaw, str, str]] = [
    (lose_a_text, "texts acknowledged but missing", "SM0"),
    (lose_a_text_for_good, "texts nobody acknowledged, not found by reconciling either", "SM9"),
    (store_a_text_twice, "texts stored twice", "SM1"),
    (invent_a_text, "texts stored that no phone sent", "SM77"),
    (swap_stored_texts, "texts of a phone stored out of order", "SM0"),
    (accept_nothing, "sends never accepted, though repeated", "key-9"),
    (make_two_messages_of_one_key, "keys that made two messages", "key-0"),
    (leave_a_send_on_its_way, "sends accepted but neither delivered, failed nor surfaced", "out-3 (sent)"),
    (forget_a_send, "sends accepted but neither delivered, failed nor surfaced", "out-3 (not in the history)"),
    (send_twice, "texts that reached a phone twice", "out-0 (SMout0, mb1)"),
    (send_what_nobody_asked_for, "texts on phones that nobody asked for", "SMghost"),
    (swap_arrivals, "texts out of order at a phone", "out-0 (SMout0)"),
    (take_a_final_state_back, "final states that went backwards", "out-0 (delivered, then sent)"),
    (turn_delivered_into_failed, "final states that went backwards", "out-0 (delivered, then undelivered)"),
    (call_delivered_what_never_arrived, "final states that the phones contradict", "out-3 (delivered, on no phone)"),
    (call_failed_what_arrived, "final states that the phones contradict", "out-0 (failed, on the phone)"),
    (name_another_provider_id, "messages with a provider id that is not theirs", "out-0 (SMelsewhere)"),
    (name_the_provider_id_of_an_equal_text, "messages with a provider id that is not theirs", "out-4 (SMout3)"),
    (send_equal_texts_thrice, "texts that reached a phone twice", "out-3 out-4 (SMout3, SMout4, SMout5)"),
    (leave_work, "work left behind", "2 send_message"),
    (leave_a_text_without_language, "work left behind", "in-0 (no language or no tenant looked up)"),
    (answer_late, "webhooks acknowledged after more than 15 s", "SM1 (15.0 s)"),
    (refuse_a_request, "valid requests refused or broken", "GET /conversations/+14155550100: 500 {}"),
    (die, "processes that ended by themselves, or not when told", "worker ended by itself, exit status 1"),
    (never_settle, "what did not settle", "out-9 is queued"),
]


class TestCountAll:
    def test_finds_nothing_in_a_flawless_record(self) -> None:
        assert wrong(flawless()) == {}

    @pytest.mark.parametrize(("flaw", "claim", "found"), FLAWS, ids=[flaw.__name__ for flaw, _, _ in FLAWS])
    def test_finds_each_flaw_and_nothing_else(self, flaw: Flaw, claim: str, found: str) -> None:
        evidence = flawless()
        flaw(evidence)
        assert wrong(evidence) == {claim: (found,)}

    def test_has_a_flaw_for_every_count(self) -> None:
        assert {claim for _, claim, _ in FLAWS} == {count.claim for count in count_all(Evidence())}

    def test_asks_nothing_of_texts_that_were_never_acknowledged(self) -> None:
        evidence = flawless()
        evidence.history.append(Stored("in-9", OTHER, "SM9", is_inbound=True, status="received"))
        assert wrong(evidence) == {}

    def test_takes_what_waits_for_a_person_as_surfaced(self) -> None:
        evidence = flawless()
        show(evidence, 3, "unknown")
        evidence.dead.add("out-3")
        assert wrong(evidence) == {}

    def test_takes_equal_words_with_another_key_for_another_message(self) -> None:
        evidence = flawless()
        ask_for_the_same_words_again(evidence)
        assert wrong(evidence) == {}

    def test_takes_failed_and_never_arrived_as_an_end(self) -> None:
        evidence = flawless()
        show(evidence, 3, "failed")
        evidence.arrivals.pop()
        assert wrong(evidence) == {}

    def test_knows_no_order_across_priorities(self) -> None:
        evidence = flawless()
        evidence.arrivals[0].number, evidence.arrivals[1].number = 1, 0
        assert wrong(evidence) == {}

    def test_does_not_take_an_answer_that_was_overtaken_for_a_state_that_went_backwards(self) -> None:
        evidence = flawless()
        evidence.see("out-0", "sent", 3.9, 6)
        assert wrong(evidence) == {}

    def test_sees_a_state_go_back_behind_an_answer_that_was_overtaken(self) -> None:
        evidence = flawless()
        evidence.see("out-0", "sent", 3.9, 6)
        evidence.see("out-0", "sent", 7, 8)
        assert wrong(evidence) == {"final states that went backwards": ("out-0 (delivered, then sent)",)}

    def test_lets_what_was_delivered_be_read(self) -> None:
        evidence = flawless()
        evidence.see("out-0", "read", 5, 6)
        assert wrong(evidence) == {}

    def test_says_how_long_the_slowest_acknowledged_webhook_took(self) -> None:
        counts = {count.claim: count for count in count_all(flawless())}
        assert counts["webhooks acknowledged after more than 15 s"].note == "slowest 0.0 s"


class TestTell:
    run = Run(seed=7, seconds=90, machine="2 cores", database="PostgreSQL 15", faults=make_plan(7, 90))

    def test_ends_with_status_0_when_every_count_is_zero(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert tell(self.run, flawless(), count_all(flawless()), None) == 0
        assert "FAILED" not in "".join(capsys.readouterr())

    @pytest.mark.parametrize("flaw", [flaw for flaw, _, _ in FLAWS])
    def test_ends_with_status_1_for_any_flaw(self, flaw: Flaw) -> None:
        evidence = flawless()
        flaw(evidence)
        assert tell(self.run, evidence, count_all(evidence), None) == 1

    def test_fails_loudly_with_the_seed_the_ids_and_how_to_see_it_again(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        evidence = flawless()
        lose_a_text(evidence)
        tell(self.run, evidence, count_all(evidence), None)
        complaint = capsys.readouterr().err
        assert "FAILED with seed 7" in complaint
        assert "texts acknowledged but missing: 1\n  SM0" in complaint
        assert "CHAOS_SEED=7 CHAOS_SECONDS=90 make chaos" in complaint

    def test_shows_at_most_twenty_ids_of_a_count_and_writes_all_of_them_to_the_file(self, tmp_path: Path) -> None:
        counts = [Count("texts stored twice", tuple(f"SM{number}" for number in range(30)))]
        assert "and 10 more" in failures(counts, self.run)
        tell(self.run, flawless(), counts, tmp_path / "found.json")
        (written,) = orjson.loads((tmp_path / "found.json").read_bytes())["counts"]
        assert written["count"] == len(written["found"]) == 30

    def test_prints_one_table_with_a_row_per_count(self, capsys: pytest.CaptureFixture[str]) -> None:
        counts = count_all(flawless())
        tell(self.run, flawless(), counts, None)
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
        assert len(rows) == 1 + len(counts)
        assert "\n".join(rows[1:]) in table(counts)

    def test_writes_seed_counts_figures_and_faults_as_json(self) -> None:
        written = as_json(self.run, flawless(), count_all(flawless()))
        assert (written["seed"], written["passed"]) == (7, True)
        assert written["figures"]["texts_nobody_acknowledged"] == 1
        assert len(written["faults"]) == len(self.run.faults)
