"""POST /webhook/twilio/sms, through the whole service."""

import asyncio

from tests.support.service import Service


class TestInboundText:
    async def test_is_answered_with_empty_twiml_after_it_was_stored(self, service: Service) -> None:
        response = await service.text("SM1", "Hola, no hay agua")

        assert (response.status_code, response.headers["content-type"]) == (200, "text/xml; charset=utf-8")
        assert response.text == '<?xml version="1.0" encoding="UTF-8"?><Response/>'
        assert await service.database.pool.fetchval("SELECT message_content FROM sms_messages") == "Hola, no hay agua"

    async def test_delivered_ten_times_at_once_is_one_message(self, service: Service) -> None:
        responses = await asyncio.gather(*(service.text("SM1") for _ in range(10)))

        assert {(each.status_code, each.text) for each in responses} == {(200, responses[0].text)}
        conversation = await service.conversation()
        assert conversation["total"] == 1

    async def test_gets_its_language_in_the_background(self, service: Service) -> None:
        await service.text("SM1", "Hola, no hay agua caliente en mi apartamento")
        await service.finish_work()

        conversation = await service.conversation()
        assert conversation["language_detected"] == "es"
