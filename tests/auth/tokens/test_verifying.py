"""Our own tokens: what is accepted, and everything that is not, with the reason an operator sees."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import RSAKey

from sms_foundation.auth.directory import Grant
from sms_foundation.auth.gate import KeyToken, SessionToken
from sms_foundation.auth.permissions import Permission
from sms_foundation.auth.principal import ClientKind, Principal
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.tokens.claims import UnverifiedToken
from sms_foundation.auth.tokens.opening import TokenParts, open_tokens
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.service import BASE_URL, make_settings
from tests.support.tokens import OURS, STRANGER, encode, now, public_pem, sign, sign_hs256

Json = dict[str, Any]
SESSION = new_id()


@pytest.fixture
def settings() -> Settings:
    return make_settings(signing_key=OURS.pem)


@pytest.fixture
async def parts(settings: Settings, database: Database) -> AsyncIterator[TokenParts]:
    """What makes and reads tokens, its key registered."""
    async with open_tokens(settings, database) as parts:
        await parts.issuer.prepare()
        yield parts


def claims(**changes: object) -> Json:
    """Claims as ours are; None leaves one out."""
    usual = {
        "iss": BASE_URL,
        "aud": "sms-foundation",
        "sub": "person-abc",
        "sid": str(SESSION),
        "iat": now(),
        "nbf": now(),
        "exp": now() + 900,
        "jti": "1",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def header_of(token: str) -> Json:
    part = token.partition(".")[0]
    return dict(orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def claims_of(token: str) -> Json:
    part = token.split(".")[1]
    return dict(orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def joined(parts: list[bytes]) -> str:
    return ".".join(map(encode, parts))


async def reason(parts: TokenParts, token: str) -> Reason:
    with pytest.raises(RefusedError) as caught:
        await parts.tokens.verify(token)
    return caught.value.reason


class TestAccepted:
    async def test_a_persons_token_names_its_session(self, parts: TokenParts) -> None:
        token = await parts.issuer.for_session("person-abc", SESSION)

        assert await parts.tokens.verify(token.text) == SessionToken(SESSION)
        assert token.expires_in_s == 900
        assert header_of(token.text) == {"alg": "RS256", "typ": "JWT", "kid": OURS.kid}
        said = claims_of(token.text)
        assert set(said) == {"iss", "aud", "sub", "sid", "iat", "nbf", "exp", "jti"}
        assert (said["iss"], said["aud"], said["sub"]) == (BASE_URL, "sms-foundation", "person-abc")
        assert said["exp"] - said["iat"] == 900

    async def test_a_services_token_names_its_key_and_scope(self, parts: TokenParts) -> None:
        principal = Principal(
            client_id="reminder",
            kind=ClientKind.SERVICE,
            permissions=frozenset(),
            credential="key sf_test_abc",
            is_test=True,
        )
        key_id = new_id()
        scopes = frozenset({Permission.MESSAGES_SEND, Permission.MESSAGES_READ})
        token = await parts.issuer.for_key(Grant(principal, key_id=key_id), scopes)

        assert await parts.tokens.verify(token.text) == KeyToken(key_id, scopes)
        said = claims_of(token.text)
        assert (said["sub"], said["scope"], said["test"]) == ("reminder", "messages:read messages:send", True)

    async def test_every_token_has_an_id_of_its_own(self, parts: TokenParts) -> None:
        tokens = [(await parts.issuer.for_session("person-abc", SESSION)).text for _ in range(2)]

        assert len({claims_of(token)["jti"] for token in tokens}) == 2

    async def test_it_is_what_the_documents_say_a_jwt_is(self, parts: TokenParts) -> None:
        assert await parts.tokens.verify(sign(claims(), OURS)) == SessionToken(SESSION)


REFUSED: dict[str, tuple[Callable[[], str], Reason]] = {
    "signed with the public key as a shared secret": (
        lambda: sign_hs256(claims(), public_pem(OURS), kid=OURS.kid),
        Reason.WRONG_ALGORITHM,
    ),
    "signed with the public key's JSON as a shared secret": (
        lambda: sign_hs256(claims(), orjson.dumps(OURS.public_jwk), kid=OURS.kid),
        Reason.WRONG_ALGORITHM,
    ),
    "none": (lambda: f"{encode({'alg': 'none', 'kid': OURS.kid})}.{encode(claims())}.", Reason.WRONG_ALGORITHM),
    "NONE": (lambda: f"{encode({'alg': 'NONE', 'kid': OURS.kid})}.{encode(claims())}.", Reason.WRONG_ALGORITHM),
    "RS384": (lambda: sign(claims(), OURS, alg="RS384"), Reason.WRONG_ALGORITHM),
    "PS256": (lambda: sign(claims(), OURS, alg="PS256"), Reason.WRONG_ALGORITHM),
    "ES256": (lambda: sign(claims(), OURS, alg="ES256"), Reason.WRONG_ALGORITHM),
    "rs256 in small letters": (lambda: sign(claims(), OURS, alg="rs256"), Reason.WRONG_ALGORITHM),
    "alg that is a list": (lambda: sign(claims(), OURS, alg=["RS256"]), Reason.WRONG_ALGORITHM),
    "alg that is missing": (lambda: sign(claims(), OURS, alg=None), Reason.MALFORMED),
    "signed by another, in our key's name": (lambda: sign(claims(), STRANGER, kid=OURS.kid), Reason.WRONG_SIGNATURE),
    "without signature": (lambda: sign(claims(), OURS).rpartition(".")[0] + ".", Reason.WRONG_SIGNATURE),
    "with other claims than signed": (
        lambda: ".".join([(p := sign(claims(), OURS).split("."))[0], encode(claims(sub="admin")), p[2]]),
        Reason.WRONG_SIGNATURE,
    ),
    "with a key of its own": (
        lambda: sign(claims(), STRANGER, kid=OURS.kid, jwk=dict(STRANGER.public_jwk)),
        Reason.WRONG_SIGNATURE,
    ),
    "with the address of a key of its own": (
        lambda: sign(claims(), STRANGER, kid=OURS.kid, jku="https://evil.example/keys"),
        Reason.WRONG_SIGNATURE,
    ),
    "missing kid": (lambda: sign(claims(), OURS, kid=None), Reason.UNKNOWN_SIGNER),
    "kid that is no text": (lambda: sign(claims(), OURS, kid=1), Reason.UNKNOWN_SIGNER),
    "unknown kid": (lambda: sign(claims(), STRANGER), Reason.UNKNOWN_SIGNER),
    "kid that is a path": (lambda: sign(claims(), OURS, kid="../../dev/null"), Reason.UNKNOWN_SIGNER),
    "kid that is a statement": (lambda: sign(claims(), OURS, kid="' OR 1=1 --\x00"), Reason.UNKNOWN_SIGNER),
    "wrong iss": (lambda: sign(claims(iss="https://evil.example"), OURS), Reason.WRONG_ISSUER),
    "missing iss": (lambda: sign(claims(iss=None), OURS), Reason.WRONG_ISSUER),
    "iss that is a list": (lambda: sign(claims(iss=[BASE_URL]), OURS), Reason.WRONG_ISSUER),
    "wrong aud": (lambda: sign(claims(aud="another-service"), OURS), Reason.WRONG_AUDIENCE),
    "missing aud": (lambda: sign(claims(aud=None), OURS), Reason.WRONG_AUDIENCE),
    "aud of others": (lambda: sign(claims(aud=["a", 1, None]), OURS), Reason.WRONG_AUDIENCE),
    "exp that is now": (lambda: sign(claims(exp=now()), OURS), Reason.EXPIRED_TOKEN),
    "missing exp": (lambda: sign(claims(exp=None), OURS), Reason.WRONG_CLAIMS),
    "exp that is a text": (lambda: sign(claims(exp=str(now() + 900)), OURS), Reason.WRONG_CLAIMS),
    "exp that is true": (lambda: sign(claims(exp=True), OURS), Reason.WRONG_CLAIMS),
    "exp beyond all numbers": (lambda: sign(claims(exp=1e300), OURS), Reason.WRONG_CLAIMS),
    "nbf that is to come": (lambda: sign(claims(nbf=now() + 5), OURS), Reason.NOT_YET_VALID),
    "nbf that is a text": (lambda: sign(claims(nbf="0"), OURS), Reason.WRONG_CLAIMS),
    "missing sub": (lambda: sign(claims(sub=None), OURS), Reason.WRONG_CLAIMS),
    "neither session nor key": (lambda: sign(claims(sid=None), OURS), Reason.WRONG_CLAIMS),
    "sid that is no id": (lambda: sign(claims(sid="admin"), OURS), Reason.WRONG_CLAIMS),
    "key without scope": (lambda: sign(claims(sid=None, key=str(SESSION)), OURS), Reason.WRONG_CLAIMS),
    "critical extension": (lambda: sign(claims(), OURS, crit=["exp"], exp=1), Reason.MALFORMED),
    "critical extension that joserfc knows": (lambda: sign(claims(), OURS, crit=["b64"], b64=True), Reason.MALFORMED),
    "token for another purpose": (lambda: sign(claims(), OURS, typ="logout+jwt"), Reason.MALFORMED),
    "larger than 8 KiB": (lambda: sign(claims(more="x" * 8192), OURS), Reason.MALFORMED),
    "garbage": (lambda: "a.b.c", Reason.MALFORMED),
    "nothing": (lambda: "", Reason.MALFORMED),
    "dots": (lambda: "..", Reason.MALFORMED),
    "non-ASCII": (lambda: sign(claims(), OURS).replace("e", "é", 1), Reason.MALFORMED),
    "claims that are a list": (lambda: sign([1], OURS), Reason.WRONG_CLAIMS),
    "claims that are no JSON": (lambda: sign(b"{", OURS), Reason.MALFORMED),
    "claims nested without end": (lambda: sign(b"[" * 5000, OURS), Reason.MALFORMED),
    "header nested without end": (lambda: f"{encode(b'[' * 2000)}.{encode(claims())}.AA", Reason.MALFORMED),
    "header that is a text": (lambda: f"{encode('alg')}.{encode(claims())}.AA", Reason.MALFORMED),
    "JWE": (
        lambda: jwe.encrypt_compact(
            {"alg": "RSA-OAEP", "enc": "A128GCM", "kid": OURS.kid},
            orjson.dumps(claims()),
            RSAKey.import_key({"kty": "RSA", "n": OURS.public_jwk["n"], "e": OURS.public_jwk["e"]}),
            algorithms=["RSA-OAEP", "A128GCM"],
        ),
        Reason.MALFORMED,
    ),
}


class TestRefused:
    @pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED)
    async def test_with_the_reason(self, parts: TokenParts, make: Callable[[], str], why: Reason) -> None:
        assert await reason(parts, make()) is why

    @given(st.text(max_size=200) | st.lists(st.binary(max_size=40), min_size=3, max_size=3).map(joined))
    def test_whatever_comes_is_refused_and_nothing_else(self, text: str) -> None:
        with pytest.raises(RefusedError):
            UnverifiedToken(text).verify(OURS.key)


class TestTime:
    async def test_ours_have_no_leeway(self, parts: TokenParts) -> None:
        token = sign(claims(exp=now() + 900), OURS)
        with time_machine.travel(now() + 899.9, tick=False):
            assert await parts.tokens.verify(token) == SessionToken(SESSION)
        with time_machine.travel(now() + 901, tick=False):
            assert await reason(parts, token) is Reason.EXPIRED_TOKEN

    async def test_a_token_is_valid_at_once_on_an_instance_whose_clock_is_behind(self, parts: TokenParts) -> None:
        token = await parts.issuer.for_session("person-abc", SESSION)
        with time_machine.travel(now() - 5, tick=False):
            assert await parts.tokens.verify(token.text) == SessionToken(SESSION)


class TestCost:
    async def test_known_keys_ask_nobody(self, parts: TokenParts, database: Database) -> None:
        """Within the seconds a key is known for; requests share one question."""
        token = (await parts.issuer.for_session("person-abc", SESSION)).text
        await parts.tokens.verify(token)
        await database.pool.execute("ALTER TABLE auth_signing_keys RENAME TO away")
        verified = await asyncio.gather(*(parts.tokens.verify(token) for _ in range(50)))

        assert verified == [SessionToken(SESSION)] * 50
