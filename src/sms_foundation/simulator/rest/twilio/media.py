"""The pictures of a message as Twilio's Media resource: they can be listed and deleted, not fetched.

Source: https://www.twilio.com/docs/messaging/api/media-resource (November 2026)
"""

from hashlib import md5

from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.rest.twilio.resource import collection_path, rfc2822


def list_media(message: Message, account_sid: str) -> dict[str, object]:
    """Return one page with all media of a message: there are ten at most."""
    uri = f"{collection_path(account_sid)}/{message.id}/Media"
    return {
        "media_list": [
            {
                "account_sid": account_sid,
                "content_type": "image/jpeg",
                "date_created": rfc2822(message.accepted_at),
                "date_updated": rfc2822(message.updated_at),
                "parent_sid": message.id,
                "sid": sid,
                "uri": f"{uri}/{sid}.json",
            }
            for sid in (_media_sid(message, url) for url in message.media_urls)
        ],
        "first_page_uri": f"{uri}.json?PageSize=50&Page=0",
        "next_page_uri": None,
        "previous_page_uri": None,
        "page": 0,
        "page_size": 50,
        "start": 0,
        "end": max(0, len(message.media_urls) - 1),
        "uri": f"{uri}.json?PageSize=50&Page=0",
    }


def delete_media(message: Message, sid: str) -> bool:
    """Take media of this SID from a message; False when it has none."""
    left = tuple(url for url in message.media_urls if _media_sid(message, url) != sid)
    is_there = left != message.media_urls
    message.media_urls = left
    return is_there


def _media_sid(message: Message, url: str) -> str:
    return "ME" + md5(f"{message.id} {url}".encode(), usedforsecurity=False).hexdigest()
