"""The unmodified SDK, pointed at the simulator over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

import requests
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from tests.simulator.rest.running import RunningSimulator
from tests.simulator.servers import AUTH_TOKEN

PHONE = "+15125550142"
KEYS = {
    "account_sid", "api_version", "body", "date_created", "date_sent", "date_updated", "direction", "error_code",
    "error_message", "from", "messaging_service_sid", "num_media", "num_segments", "price", "price_unit", "sid",
    "status", "subresource_uris", "to", "uri",
}  # fmt: skip
SERVICE = "MG" + "1b" * 16


@contextmanager
def sdk_for(simulator: RunningSimulator, auth_token: str = AUTH_TOKEN) -> Iterator[Client]:
    with requests.Session() as session:
        http_client = TwilioHttpClient()
        http_client.session = session
        client = Client(LOCAL_ACCOUNT_SID, auth_token, http_client=http_client)
        client.api.base_url = simulator.url
        yield client


@pytest.fixture
def client(simulator: RunningSimulator) -> Iterator[Client]:
    with sdk_for(simulator) as client:
        yield client


@pytest.fixture
def raw(simulator: RunningSimulator) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{simulator.url}/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}",
        auth=(LOCAL_ACCOUNT_SID, AUTH_TOKEN),
        trust_env=False,
    ) as client:
        yield client


class TestCreate:
    def test_it_is_queued_and_reaches_the_phone(self, client: Client, simulator: RunningSimulator) -> None:
        message = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola, ¿qué tal?")
        assert (message.status, message.direction, message.num_segments) == ("queued", "outbound-api", "1")
        assert message.date_created is not None
        assert message.date_sent is None
        assert message.price is None
        simulator.settle()
        phone = simulator.control.get(f"/simulator/phones/{PHONE}").json()
        (text,) = phone["received"]
        assert (text["body"], text["sender"], text["provider_message_id"]) == (
            "Hola, ¿qué tal?",
            LOCAL_PHONE_NUMBER,
            message.sid,
        )

    def test_it_is_in_the_true_record_with_its_reference(self, client: Client, simulator: RunningSimulator) -> None:
        callback = f"{simulator.receiver.base_url}/status?ref=r1.a#rc=5&rp=all"
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola", status_callback=callback).sid
        simulator.settle()
        (row,) = simulator.received()
        assert (row["provider"], row["provider_message_id"], row["reference"]) == ("twilio", sid, "r1.a")
        assert (row["recipient"], row["sender"], row["body"]) == (PHONE, LOCAL_PHONE_NUMBER, "Hola")
        assert row["accepted_at"] <= row["arrived_at"]

    def test_the_resource_has_exactly_twilios_keys_and_types(self, raw: httpx.Client) -> None:
        answer = raw.post("/Messages.json", data={"To": PHONE, "From": LOCAL_PHONE_NUMBER, "Body": "€" * 161})
        assert answer.status_code == 201
        message = answer.json()
        assert set(message) == KEYS
        assert (message["num_media"], message["num_segments"], message["price_unit"]) == ("0", "3", "USD")
        assert (message["error_code"], message["messaging_service_sid"]) == (None, None)
        assert message["uri"] == f"/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}/Messages/{message['sid']}.json"
        assert message["date_created"].endswith("+0000")
        assert abs(parsedate_to_datetime(message["date_created"]) - datetime.now(UTC)) < timedelta(minutes=1)

    def test_a_messaging_service_chooses_the_sender(self, client: Client) -> None:
        message = client.messages.create(to=PHONE, messaging_service_sid=SERVICE, body="Hola")
        assert (message.status, message.num_segments, message.messaging_service_sid) == ("accepted", "0", SERVICE)

    def test_media_make_it_an_mms(self, client: Client) -> None:
        urls = ["https://m.example/a.png", "https://m.example/b.png"]
        message = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, media_url=urls)
        assert (message.sid[:2], message.num_media) == ("MM", "2")

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({"to": "not a number", "body": "Hola"}, 21211),
            ({"to": "Acme", "body": "Hola"}, 21211),
            ({"to": "", "body": "Hola"}, 21604),
            ({"from_": "", "body": "Hola"}, 21603),
            ({"from_": "nobody at all", "body": "Hola"}, 21212),
            ({"body": ""}, 21602),
            ({"body": "a" * 1601}, 21617),
            ({"media_url": ["https://m.example/a.png"] * 11}, 21623),
            ({"body": "Hola", "status_callback": "nowhere"}, 21609),
            ({"body": "Hola", "validity_period": 36_001}, 30045),
            ({"body": "Hola", "schedule_type": "fixed", "send_at": datetime(2099, 1, 1, tzinfo=UTC)}, 35118),
            ({"body": "Hola", "schedule_type": "fixed", "messaging_service_sid": SERVICE}, 35114),
        ],
    )
    def test_what_is_not_allowed_is_refused_with_its_code(
        self, client: Client, simulator: RunningSimulator, parameters: dict[str, object], code: int
    ) -> None:
        with pytest.raises(TwilioRestException) as refused:
            client.messages.create(**{"to": PHONE, "from_": LOCAL_PHONE_NUMBER, **parameters})
        assert (refused.value.code, refused.value.status) == (code, 400)
        assert simulator.summary()["accepted"] == 0

    def test_an_error_body_is_twilios(self, raw: httpx.Client) -> None:
        answer = raw.post("/Messages.json", data={"From": LOCAL_PHONE_NUMBER, "Body": "Hola"})
        assert answer.json() == {
            "code": 21604,
            "message": "A 'To' phone number is required.",
            "more_info": "https://www.twilio.com/docs/errors/21604",
            "status": 400,
        }

    def test_wrong_credentials_are_refused(self, simulator: RunningSimulator) -> None:
        with sdk_for(simulator, "wrong") as stranger:
            with pytest.raises(TwilioRestException) as refused:
                stranger.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola")
            assert (refused.value.code, refused.value.status) == (20003, 401)
            with pytest.raises(TwilioException):
                stranger.messages.list(limit=1)

    def test_somebody_elses_account_is_not_found(self, client: Client) -> None:
        with pytest.raises(TwilioRestException) as refused:
            client.api.v2010.accounts("AC" + "0" * 32).messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="a")
        assert refused.value.code == 20404


class TestReceipts:
    def test_they_are_signed_and_go_to_the_messages_own_url(self, client: Client, simulator: RunningSimulator) -> None:
        callback = f"{simulator.receiver.base_url}/status?ref=r1#rc=2&rp=all"
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola", status_callback=callback).sid
        simulator.settle()
        received = simulator.receiver.received
        assert sorted(each.form["MessageStatus"] for each in received) == ["delivered", "sent"]
        assert {each.form["MessageSid"] for each in received} == {sid}
        assert {each.path for each in received} == {"/status?ref=r1"}
        assert simulator.receiver.unsigned == 0

    def test_without_a_url_there_are_none(self, client: Client, simulator: RunningSimulator) -> None:
        client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola")
        simulator.settle()
        assert simulator.receiver.received == []


class TestFetch:
    def test_it_shows_how_far_the_message_is(self, client: Client, simulator: RunningSimulator) -> None:
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola").sid
        simulator.settle()
        message = client.messages(sid).fetch()
        assert (message.status, message.price, message.error_code) == ("delivered", "-0.00790", None)
        assert message.date_sent is not None

    def test_an_unknown_one_is_20404(self, client: Client) -> None:
        with pytest.raises(TwilioRestException) as refused:
            client.messages("SM" + "0" * 32).fetch()
        assert (refused.value.code, refused.value.status) == (20404, 404)


class TestList:
    def send(self, client: Client, count: int) -> list[str]:
        sids = [
            str(client.messages.create(to=f"+1512555{n:04}", from_=LOCAL_PHONE_NUMBER, body=str(n)).sid)
            for n in range(count)
        ]
        return sids[::-1]

    @pytest.mark.parametrize("page_size", [1, 3, 7, 8])
    def test_all_pages_together_are_everything_newest_first(self, client: Client, page_size: int) -> None:
        sids = self.send(client, 7)
        assert [message.sid for message in client.messages.list(page_size=page_size)] == sids

    def test_pages_stay_put_while_new_messages_come_in(self, client: Client) -> None:
        sids = self.send(client, 4)
        first = client.messages.page(page_size=2)
        self.send(client, 3)
        second = first.next_page()
        assert second is not None
        assert [message.sid for message in second] == sids[2:]
        assert second.next_page() is None
        back = second.previous_page()
        assert back is not None
        assert [message.sid for message in back] == sids[:2]

    def test_filters_by_recipient_and_sender(self, client: Client) -> None:
        self.send(client, 3)
        other = client.messages.create(to="+15125550001", from_="+15005550009", body="other").sid
        assert [message.sid for message in client.messages.list(from_="+15005550009")] == [other]
        assert len(client.messages.list(to="+15125550001")) == 2
        assert [message.sid for message in client.messages.list(to="+15125550001", from_="+15005550009")] == [other]
        assert client.messages.list(to="+15125559999") == []

    def test_filters_by_date_sent_include_their_bounds(self, client: Client, simulator: RunningSimulator) -> None:
        (sid,) = self.send(client, 1)
        simulator.settle()
        sent_at = client.messages(sid).fetch().date_sent
        assert sent_at is not None
        second = timedelta(seconds=1)
        assert len(client.messages.list(date_sent=sent_at)) == 1
        assert len(client.messages.list(date_sent_after=sent_at, date_sent_before=sent_at)) == 1
        assert client.messages.list(date_sent_after=sent_at + second) == []
        assert client.messages.list(date_sent_before=sent_at - second) == []

    def test_a_day_is_a_date_filter_too(self, raw: httpx.Client, client: Client, simulator: RunningSimulator) -> None:
        self.send(client, 1)
        simulator.settle()
        today = datetime.now(UTC).date()
        for filters, count in [
            ({"DateSent": today}, 1),
            ({"DateSent>": today}, 1),
            ({"DateSent<": today}, 1),
            ({"DateSent": today - timedelta(days=2)}, 0),
            ({"DateSent<": today - timedelta(days=2)}, 0),
        ]:
            params = {name: value.isoformat() for name, value in filters.items()}
            assert len(raw.get("/Messages.json", params=params).json()["messages"]) == count

    def test_what_is_not_sent_yet_fits_no_date(self, client: Client) -> None:
        client.messages.create(
            to=PHONE,
            messaging_service_sid=SERVICE,
            body="later",
            schedule_type="fixed",
            send_at=datetime.now(UTC) + timedelta(hours=1),
        )
        assert client.messages.list(date_sent_after=datetime(2020, 1, 1, tzinfo=UTC)) == []
        assert len(client.messages.list()) == 1

    def test_a_page_is_what_the_sdk_reads(self, raw: httpx.Client, client: Client) -> None:
        self.send(client, 3)
        page = raw.get("/Messages.json", params={"PageSize": 2, "To": "+15125550002"}).json()
        assert set(page) == {
            "end", "first_page_uri", "messages", "next_page_uri", "page", "page_size", "previous_page_uri", "start",
            "uri",
        }  # fmt: skip
        assert page["next_page_uri"] is None
        page = raw.get("/Messages.json", params={"PageSize": 2, "From": LOCAL_PHONE_NUMBER}).json()
        assert page["next_page_uri"].startswith(f"/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}/Messages.json?From=%2B1500")
        assert "PageToken=" in page["next_page_uri"]

    def test_a_text_from_a_phone_is_listed_as_inbound(self, client: Client, simulator: RunningSimulator) -> None:
        for _ in range(2):  # the second is a redelivery
            sid = "SM" + "0a" * 16
            simulator.control.post("/simulator/texts", json={"from": PHONE, "body": "Hola", "message_sid": sid})
        (message,) = client.messages.list(to=LOCAL_PHONE_NUMBER)
        assert (message.sid, message.direction, message.status, message.body) == (sid, "inbound", "received", "Hola")

    @pytest.mark.parametrize("params", [{"DateSent": "yesterday"}, {"PageToken": "PAx"}, {"Page": "-1"}])
    def test_what_cannot_be_read_is_refused(self, raw: httpx.Client, params: dict[str, str]) -> None:
        assert raw.get("/Messages.json", params=params).status_code == 400


class TestUpdate:
    def test_an_empty_body_redacts(self, client: Client, simulator: RunningSimulator) -> None:
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="a secret").sid
        simulator.settle()
        assert client.messages(sid).update(body="").body == ""
        assert client.messages(sid).fetch().body == ""
        assert simulator.received()[0]["body"] == "a secret"

    def test_media_can_be_listed_and_deleted_one_by_one(self, client: Client, simulator: RunningSimulator) -> None:
        urls = ["https://media.example/1.jpg", "https://media.example/2.jpg"]
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="look", media_url=urls).sid
        simulator.settle()
        first, second = client.messages(sid).media.list()
        assert client.messages(sid).media(first.sid).delete()
        assert [each.sid for each in client.messages(sid).media.list()] == [second.sid]
        assert client.messages(sid).fetch().num_media == "1"
        with pytest.raises(TwilioRestException) as refused:
            client.messages(sid).media(first.sid).delete()
        assert refused.value.code == 20404

    def test_a_scheduled_message_can_be_canceled(self, client: Client, simulator: RunningSimulator) -> None:
        callback = f"{simulator.receiver.base_url}/status"
        message = client.messages.create(
            to=PHONE,
            messaging_service_sid=SERVICE,
            body="later",
            schedule_type="fixed",
            send_at=datetime.now(UTC) + timedelta(hours=1),
            status_callback=callback,
        )
        assert message.status == "scheduled"
        assert client.messages(message.sid).update(status="canceled").status == "canceled"
        assert simulator.summary()["accepted"] == 0

    def test_what_has_gone_out_cannot_be_canceled(self, client: Client, simulator: RunningSimulator) -> None:
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola").sid
        with pytest.raises(TwilioRestException) as refused:
            client.messages(sid).update(status="canceled")
        assert refused.value.code == 30409

    def test_a_new_body_is_refused(self, client: Client) -> None:
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola").sid
        with pytest.raises(TwilioRestException):
            client.messages(sid).update(body="Adiós")


class TestDelete:
    def test_it_is_gone_but_not_from_the_true_record(self, client: Client, simulator: RunningSimulator) -> None:
        sid = client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola").sid
        simulator.settle()
        assert client.messages(sid).delete() is True
        assert client.messages.list() == []
        with pytest.raises(TwilioRestException):
            client.messages(sid).fetch()
        assert simulator.summary()["arrived"] == 1

    def test_one_under_way_is_not_deleted(self, client: Client) -> None:
        sid = client.messages.create(
            to=PHONE,
            messaging_service_sid=SERVICE,
            body="later",
            schedule_type="fixed",
            send_at=datetime.now(UTC) + timedelta(hours=1),
        ).sid
        with pytest.raises(TwilioRestException) as refused:
            client.messages(sid).delete()
        assert refused.value.code == 20009


class TestOptOut:
    def test_stop_is_heeded_until_start(self, client: Client, simulator: RunningSimulator) -> None:
        simulator.control.post("/simulator/texts", json={"from": PHONE, "body": " Stop "})
        with pytest.raises(TwilioRestException) as refused:
            client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola")
        assert refused.value.code == 21610
        client.messages.create(to="+15125550143", from_=LOCAL_PHONE_NUMBER, body="Hola")
        simulator.control.post("/simulator/texts", json={"from": PHONE, "body": "START"})
        client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola")

    def test_a_word_within_a_sentence_is_no_keyword(self, client: Client, simulator: RunningSimulator) -> None:
        simulator.control.post("/simulator/texts", json={"from": PHONE, "body": "stop please"})
        client.messages.create(to=PHONE, from_=LOCAL_PHONE_NUMBER, body="Hola")
