"""STUB"""

from sms_foundation.auth.gate import VerifiedToken
from sms_foundation.auth.refusals import Reason, RefusedError


class Tokens:
    """STUB"""

    async def verify(self, token: str) -> VerifiedToken:
        """See `gate.TokenVerifier`."""
        raise RefusedError(Reason.UNKNOWN_SIGNER)

    async def close(self) -> None:
        """STUB"""
