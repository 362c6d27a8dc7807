"""The accounts the simulator plays on a developer's machine, as the service believes in them.

Public on purpose, like `core.config.LOCAL_AUTH_TOKEN`: they open nothing but a simulator. A deployment that is not
local must refuse them.
"""

from base64 import b64encode
from typing import Final

LOCAL_MESSAGEBIRD_ACCESS_KEY: Final = "local-messagebird-access-key"
LOCAL_MESSAGEBIRD_SIGNING_KEY: Final = "local-messagebird-signing-key-32b"
"""Signs webhooks (HS256); not the key that sends, as at MessageBird."""

LOCAL_VONAGE_API_KEY: Final = "5ea1c0de"
LOCAL_VONAGE_API_SECRET: Final = "local-vonage-api-secret"  # noqa: S105  # public on purpose
LOCAL_VONAGE_SIGNATURE_SECRET: Final = "local-vonage-signature-secret"  # noqa: S105  # public on purpose
LOCAL_VONAGE_SIGNATURE_METHOD: Final = "sha256"

LOCAL_TELNYX_API_KEY: Final = "KEY0local-telnyx-api-key"
LOCAL_TELNYX_PRIVATE_SEED: Final = b"sms-foundation-local-telnyx-seed"
"""The 32 bytes of an Ed25519 private key, with which the simulator signs."""
LOCAL_TELNYX_PUBLIC_KEY: Final = "73EpKHowOWdiOAaLVzljWTX0jALrL6S7prlu/DwlSj4="
"""Its public key in base64, as Telnyx shows it in its portal."""

LOCAL_SECRETS: Final = frozenset(
    {
        LOCAL_MESSAGEBIRD_ACCESS_KEY,
        LOCAL_MESSAGEBIRD_SIGNING_KEY,
        LOCAL_VONAGE_API_SECRET,
        LOCAL_VONAGE_SIGNATURE_SECRET,
        LOCAL_TELNYX_API_KEY,
        LOCAL_TELNYX_PUBLIC_KEY,
        b64encode(LOCAL_TELNYX_PRIVATE_SEED).decode(),
    }
)
"""Every value that must not be trusted outside APP_ENV=local and test."""
