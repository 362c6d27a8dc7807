"""A report that came before its message is read by the words of its provider, as the process was configured."""

from base64 import b64encode

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.providers.base import InboundSms, MessageStatus, StatusReport
from sms_foundation.worker import open_core
from tests.support.processes import eventually
from tests.support.service import make_settings


async def test_in_a_process_that_works(database: Database, database_url: DatabaseUrl) -> None:
    key = b64encode(bytes(32)).decode()
    providers = f'[{{"kind": "telnyx", "name": "t", "api_key": "a", "public_key": "{key}"}}]'
    settings = make_settings(providers=providers, work_poll_s=0.05)
    report = StatusReport("t", "early", "delivery_failed", MessageStatus.UNDELIVERED, None, None, "{}")
    await ReceiptStore(database, timeout_s=10).apply(report)
    async with open_core(settings, database_url) as core:
        core.start()
        text = InboundSms("t", "early", "+14155550123", "+15005550006", "", (), 1, "{}")
        await core.messages.store(text, phone="+14155550123")

        async def is_applied() -> bool:
            status = await database.pool.fetchval("SELECT delivery_status FROM sms_messages")
            return bool(status == MessageStatus.UNDELIVERED)

        await eventually(is_applied, "the report has been applied")
        await core.stop(5)
