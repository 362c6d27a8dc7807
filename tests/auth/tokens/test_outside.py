"""Tokens of outside issuers: Google's and Supabase's as they are; and issuers that are away or hostile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey

from sms_foundation.auth.clients.schemas import IdentityBody
from sms_foundation.auth.clients.service import link_identity
from sms_foundation.auth.gate import OutsideToken
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.auth.tokens import jwks
from sms_foundation.auth.tokens.issuers import outside_issuers
from sms_foundation.auth.tokens.jwks import JwksError, read_jwks
from sms_foundation.auth.tokens.opening import TokenParts, open_tokens
from sms_foundation.auth.tokens.private_keys import SigningKey, generate_signing_key
from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.core.db import Database
from sms_foundation.core.errors import StartupError
from tests.support.access import bearer, make_client
from tests.support.service import BASE_URL, make_settings, running_service
from tests.support.tokens import STRANGER, Issuer, now, public_pem, running_issuer, sign, sign_hs256

Json = dict[str, Any]
GOOGLE_KEY, SUPABASE_KEY, NEXT_KEY = generate_signing_key(), generate_signing_key(), generate_signing_key()
GOOGLE, SUPABASE = "https://accounts.google.com", "https://abcdefgh.supabase.co/auth/v1"
EMAIL = "maintenance@project.iam.gserviceaccount.com"


def google(**changes: object) -> Json:
    """Claims of an ID token of a service account on Cloud Run."""
    usual = {
        "iss": GOOGLE,
        "aud": BASE_URL,
        "azp": "107517467455664443766",
        "sub": "107517467455664443766",
        "email": EMAIL,
        "email_verified": True,
        "iat": now(),
        "exp": now() + 3600,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def supabase(**changes: object) -> Json:
    """Claims of an access token of Supabase Auth."""
    usual = {
        "iss": SUPABASE,
        "aud": "authenticated",
        "sub": "5f7d3c1e-9a51-4a0e-8a60-1b1c4f2f5d11",
        "email": "ana@example.com",
        "role": "authenticated",
        "aal": "aal1",
        "session_id": "0b0c9b2e-7a39-4b7e-a3f5-0b6d6a4f8a55",
        "app_metadata": {"provider": "email"},
        "iat": now(),
        "exp": now() + 3600,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


class Outside:
    """Two issuers that serve their keys, and a service that believes them."""

    def __init__(self, parts: TokenParts, google: Issuer, supabase: Issuer, clock: Callable[[float], None]) -> None:
        self.parts = parts
        self.google = google
        self.supabase = supabase
        self.pass_time = clock

    async def verify(self, claims: Json, key: SigningKey = GOOGLE_KEY, **header: object) -> object:
        return await self.parts.tokens.verify(sign(claims, key, **header))

    async def fetched(self) -> None:
        """Wait until nobody fetches keys any more."""
        running = [
            each for each in asyncio.all_tasks() if "SingleFlight" in getattr(each.get_coro(), "__qualname__", "")
        ]
        await asyncio.gather(*running)

    async def reason(self, claims: Json, key: SigningKey = GOOGLE_KEY, **header: object) -> Reason:
        with pytest.raises(RefusedError) as caught:
            await self.verify(claims, key, **header)
        return caught.value.reason


def configured(google: Issuer, supabase: Issuer) -> str:
    return orjson.dumps(
        [
            {"issuer": GOOGLE, "audience": BASE_URL, "jwks_url": google.url, "subject_claim": "email"},
            {"issuer": SUPABASE, "audience": ["authenticated", "other"], "jwks_url": supabase.url},
        ]
    ).decode()


@pytest.fixture
async def issuers() -> AsyncIterator[tuple[Issuer, Issuer]]:
    async with running_issuer(GOOGLE_KEY) as google, running_issuer(SUPABASE_KEY) as supabase:
        yield google, supabase


@pytest.fixture
async def outside(
    issuers: tuple[Issuer, Issuer], database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Outside]:
    offset = 0.0
    monotonic = jwks.monotonic

    def pass_time(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(jwks, "monotonic", lambda: monotonic() + offset)
    async with open_tokens(make_settings(outside_issuers=configured(*issuers)), database) as parts:
        yield Outside(parts, *issuers, pass_time)


class TestAccepted:
    @pytest.mark.parametrize("spelling", [GOOGLE, "accounts.google.com"])
    async def test_google_under_both_of_its_names(self, outside: Outside, spelling: str) -> None:
        assert await outside.verify(google(iss=spelling)) == OutsideToken(GOOGLE, EMAIL)

    async def test_supabase(self, outside: Outside) -> None:
        claims = supabase()

        assert await outside.verify(claims, SUPABASE_KEY) == OutsideToken(SUPABASE, claims["sub"])

    async def test_addresses_count_in_small_letters(self, outside: Outside) -> None:
        assert await outside.verify(google(email=EMAIL.upper())) == OutsideToken(GOOGLE, EMAIL)

    async def test_addresses_of_other_letters_are_nobodys(self, outside: Outside) -> None:
        """The Kelvin sign in small letters is a k: kim's address would be anybody's who can register the other."""
        assert await outside.reason(google(email="\u212aim@example.com")) is Reason.WRONG_CLAIMS
        assert await outside.reason(google(email="jos\u00e9@example.com")) is Reason.WRONG_CLAIMS

    async def test_subjects_that_are_no_addresses_count_letter_by_letter(self, outside: Outside) -> None:
        assert await outside.verify(supabase(sub="aB\u00e9"), SUPABASE_KEY) == OutsideToken(SUPABASE, "aB\u00e9")

    async def test_one_audience_of_several_is_enough(self, outside: Outside) -> None:
        assert await outside.verify(supabase(aud=["x", "other"]), SUPABASE_KEY)

    async def test_their_clocks_may_be_off_by_half_a_minute(self, outside: Outside) -> None:
        assert await outside.verify(google(exp=now() - 25))
        assert await outside.verify(google(nbf=now() + 25))
        assert await outside.reason(google(exp=now() - 31)) is Reason.EXPIRED_TOKEN
        assert await outside.reason(google(nbf=now() + 35)) is Reason.NOT_YET_VALID

    async def test_one_behind_the_api_acts_as_the_client_it_is_linked_to(
        self, issuers: tuple[Issuer, Issuer], database: Database
    ) -> None:
        settings = make_settings(outside_issuers=configured(*issuers), open_access=False)
        client = await make_client(database, "maintenance", roles=["viewer"])
        # The other of its names, and the address as somebody may type it.
        identity = IdentityBody(issuer="accounts.google.com", subject=EMAIL.title())
        async with database.transaction() as connection:
            await link_identity(connection, COMMAND_LINE, client, identity)
        async with running_service(settings, database.url, database) as service:
            known = await service.client.get("/users/me", headers=bearer(sign(google(), GOOGLE_KEY)))
            others = [
                await service.client.get("/users/me", headers=bearer(token))
                for token in (
                    sign(google(email="stranger@example.com"), GOOGLE_KEY),
                    sign(google(), STRANGER, kid=GOOGLE_KEY.kid),
                    sign(google(), SUPABASE_KEY),
                )
            ]

        assert known.status_code == 200
        assert (known.json()["client_id"], known.json()["credential"]) == ("maintenance", f"token of {GOOGLE}")
        assert [response.status_code for response in others] == [401] * 3


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"iss": "https://evil.example"}, Reason.WRONG_ISSUER),
            ({"iss": GOOGLE + "/"}, Reason.WRONG_ISSUER),
            ({"aud": "another"}, Reason.WRONG_AUDIENCE),
            ({"aud": None}, Reason.WRONG_AUDIENCE),
            ({"exp": None}, Reason.WRONG_CLAIMS),
            ({"email": None}, Reason.WRONG_CLAIMS),
            ({"email": ""}, Reason.WRONG_CLAIMS),
            ({"email": ["a@example.com"]}, Reason.WRONG_CLAIMS),
            ({"email": "a\x00@example.com"}, Reason.WRONG_CLAIMS),
            ({"email_verified": None}, Reason.WRONG_CLAIMS),
            ({"email_verified": False}, Reason.WRONG_CLAIMS),
            ({"email_verified": "false"}, Reason.WRONG_CLAIMS),
        ],
        ids=str,
    )
    async def test_for_what_it_says(self, outside: Outside, changes: Json, why: Reason) -> None:
        assert await outside.reason(google(**changes)) is why

    async def test_with_another_algorithm(self, outside: Outside) -> None:
        token = sign_hs256(google(), public_pem(GOOGLE_KEY), kid=GOOGLE_KEY.kid)
        with pytest.raises(RefusedError, match=Reason.WRONG_ALGORITHM):
            await outside.parts.tokens.verify(token)

    async def test_when_another_has_signed_it(self, outside: Outside) -> None:
        assert await outside.reason(google(), STRANGER, kid=GOOGLE_KEY.kid) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize(
        "entry",
        [
            lambda: ECKey.generate_key("P-256").as_dict(private=False, alg="RS256"),
            lambda: OctKey.generate_key(256).as_dict(private=True),
            lambda: {**NEXT_KEY.public_jwk, "use": "enc"},
            lambda: {**NEXT_KEY.public_jwk, "alg": "RS512"},
        ],
        ids=["EC", "oct", "for encryption", "for another algorithm"],
    )
    async def test_when_the_key_with_this_name_is_of_another_type(
        self, outside: Outside, entry: Callable[[], Json]
    ) -> None:
        outside.google.keys = [{**entry(), "kid": NEXT_KEY.kid}]

        assert await outside.reason(google(), NEXT_KEY) is Reason.UNKNOWN_SIGNER

    async def test_when_the_key_is_another_issuers(self, outside: Outside) -> None:
        """Even under the same name: each issuer has its own."""
        outside.google.keys[0]["kid"] = outside.supabase.keys[0]["kid"] = "same"

        assert await outside.verify(google(), GOOGLE_KEY, kid="same")
        assert await outside.verify(supabase(), SUPABASE_KEY, kid="same")
        assert await outside.reason(google(), SUPABASE_KEY, kid="same") is Reason.WRONG_SIGNATURE
        assert await outside.reason(supabase(), GOOGLE_KEY, kid="same") is Reason.WRONG_SIGNATURE

    async def test_when_it_claims_to_be_ours(self, outside: Outside) -> None:
        assert await outside.reason(google(iss=BASE_URL)) is Reason.UNKNOWN_SIGNER


class TestFetching:
    async def test_happens_once_for_many_requests(self, outside: Outside) -> None:
        await asyncio.gather(*(outside.verify(google()) for _ in range(50)))
        assert outside.google.asked == 1
        assert outside.supabase.asked == 0

    async def test_is_repeated_every_ten_minutes_beside_the_requests(self, outside: Outside) -> None:
        await outside.verify(google())
        outside.pass_time(600 * 0.8 - 1)
        await outside.verify(google())
        assert outside.google.asked == 1
        outside.pass_time(600 * 0.4 + 2)
        outside.google.may_answer.clear()
        assert await outside.verify(google())  # does not wait
        outside.google.may_answer.set()
        await outside.fetched()
        assert outside.google.asked == 2

    async def test_does_not_happen_at_the_same_moment_everywhere(self) -> None:
        moments = {round(jwks._spread(600.0), 3) for _ in range(50)}

        assert len(moments) > 10
        assert all(480 <= moment <= 720 for moment in moments)

    async def test_an_unknown_key_is_looked_for_at_once_and_then_once_a_minute(self, outside: Outside) -> None:
        await outside.verify(google())
        assert await outside.reason(google(), NEXT_KEY) is Reason.UNKNOWN_SIGNER
        asked = outside.google.asked
        for number in range(20):
            assert await outside.reason(google(), NEXT_KEY, kid=f"made-up-{number}") is Reason.UNKNOWN_SIGNER
        assert outside.google.asked == asked
        outside.google.keys.append(dict(NEXT_KEY.public_jwk))
        outside.pass_time(59)
        assert await outside.reason(google(), NEXT_KEY) is Reason.UNKNOWN_SIGNER
        outside.pass_time(2)
        assert await outside.verify(google(), NEXT_KEY)
        assert outside.google.asked == asked + 1

    async def test_a_new_key_is_found_by_all_who_come_with_it_at_once(self, outside: Outside) -> None:
        await outside.verify(google())
        outside.pass_time(61)
        outside.google.keys = [dict(NEXT_KEY.public_jwk)]
        await asyncio.gather(*(outside.verify(google(), NEXT_KEY) for _ in range(20)))
        assert outside.google.asked == 2

    async def test_a_key_the_issuer_took_away_is_refused_after_the_next_fetch(self, outside: Outside) -> None:
        await outside.verify(google())
        outside.google.keys = []
        outside.pass_time(721)
        assert await outside.verify(google())
        await outside.fetched()
        assert await outside.reason(google()) is Reason.UNKNOWN_SIGNER

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (500, b""),
            (200, b"<html>"),
            (200, b"[]"),
            (200, b'{"keys": {}}'),
            (200, b" " * 300_000),
            (302, b""),
        ],
        ids=["500", "html", "a list", "no list", "too large", "redirected"],
    )
    async def test_an_issuer_in_trouble_is_done_without_for_hours(
        self, outside: Outside, status: int, body: bytes
    ) -> None:
        await outside.verify(google())
        outside.google.status, outside.google.body = status, body
        outside.google.headers = [(b"location", outside.supabase.url.encode())]
        for hour in range(1, 4):
            outside.pass_time(3600)
            assert await outside.verify(google())
            await outside.fetched()
            assert outside.google.asked == hour + 1
        assert outside.supabase.asked == 0
        outside.google.status, outside.google.body = 200, None
        outside.google.keys = [dict(NEXT_KEY.public_jwk)]
        outside.pass_time(61)
        assert await outside.verify(google(), NEXT_KEY)

    async def test_an_issuer_that_was_away_from_the_start_is_tried_again_soon(
        self, outside: Outside, capsys: pytest.CaptureFixture[str]
    ) -> None:
        outside.google.status = 503
        assert await outside.reason(google()) is Reason.UNKNOWN_SIGNER
        assert await outside.reason(google()) is Reason.UNKNOWN_SIGNER
        assert outside.google.asked == 1
        assert "jwks.unavailable" in capsys.readouterr().out
        outside.google.status = 200
        outside.pass_time(6)
        assert await outside.verify(google())

    async def test_an_issuer_nobody_answers_for_is_an_unknown_signer(self, database: Database) -> None:
        one = [{"issuer": GOOGLE, "audience": BASE_URL, "jwks_url": "http://127.0.0.1:1/keys"}]
        async with open_tokens(make_settings(outside_issuers=orjson.dumps(one).decode()), database) as parts:
            with pytest.raises(RefusedError, match=Reason.UNKNOWN_SIGNER):
                await parts.tokens.verify(sign(google(), GOOGLE_KEY))

    async def test_an_issuer_that_answers_drop_by_drop_is_not_waited_for(
        self, outside: Outside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each of its bytes comes in time, the last of them much later."""
        monkeypatch.setattr(jwks, "_FETCH_TIMEOUT_S", 0.2)
        outside.google.is_dripping = True

        assert await outside.reason(google()) is Reason.UNKNOWN_SIGNER

    async def test_none_under_way_is_left_behind(self, database: Database, issuers: tuple[Issuer, Issuer]) -> None:
        issuers[0].may_answer.clear()
        async with open_tokens(make_settings(outside_issuers=configured(*issuers)), database) as parts:
            request = asyncio.create_task(parts.tokens.verify(sign(google(), GOOGLE_KEY)))
            await issuers[0].was_asked.wait()
        with pytest.raises((RefusedError, asyncio.CancelledError)):
            await request
        issuers[0].may_answer.set()


class TestReadJwks:
    def test_passes_over_what_it_cannot_use(self) -> None:
        good = {**GOOGLE_KEY.public_jwk, "x5c": ["junk"], "key_ops": "junk"}
        bad: list[object] = [
            None,
            "key",
            {},
            {**good, "kid": None},
            {**good, "n": "!" * 400},
            {**good, "n": good["n"][:100]},
            {**good, "n": "A" * 342},
            {**good, "n": "B" * 100_000},
            {**good, "e": "AA"},
            {**good, "e": 65537},
        ]
        body = orjson.dumps(
            {
                "keys": [
                    *({**each, "kid": "bad"} if isinstance(each, dict) and "kid" not in each else each for each in bad),
                    good,
                ]
            }
        )

        assert list(read_jwks(body)) == [GOOGLE_KEY.kid]

    def test_of_two_with_one_name_the_first_counts(self) -> None:
        entries = [GOOGLE_KEY.public_jwk, {**NEXT_KEY.public_jwk, "kid": GOOGLE_KEY.kid}]
        (key,) = read_jwks(orjson.dumps({"keys": entries})).values()

        assert key.thumbprint() == GOOGLE_KEY.kid

    @pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"keys": 1}', b"\xff", b"[" * 5000])
    def test_what_is_no_set_is_an_error(self, body: bytes) -> None:
        with pytest.raises(JwksError):
            read_jwks(body)


class TestConfiguration:
    def test_none_is_needed(self) -> None:
        assert outside_issuers(make_settings()) == {}

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("s3cr3t", "no JSON"),
            ("{}", "list"),
            ('[{"issuer": "https://a.example", "jwks_url": "https://a.example/k"}]', "0.audience"),
            ('[{"issuer": "https://a.example", "audience": [], "jwks_url": "https://a.example/k"}]', "0.audience"),
            ('[{"issuer": "", "audience": "a", "jwks_url": "https://a.example/k"}]', "0.issuer"),
            ('[{"issuer": "https://a.example", "audience": "a", "jwks_url": "ftp://a.example"}]', "0.jwks_url"),
            (
                '[{"issuer": "https://a.example", "audience": "a", "jwks_url": "https://a.example/k", "x": 1}]',
                "0.x",
            ),
            (
                f'[{{"issuer": "{BASE_URL}", "audience": "a", "jwks_url": "https://a.example/k"}}]',
                "our own",
            ),
        ],
    )
    def test_what_is_wrong_stops_the_start_and_is_named(self, text: str, word: str) -> None:
        with pytest.raises(StartupError, match=word) as caught:
            outside_issuers(make_settings(outside_issuers=text))

        assert str(caught.value).startswith("OUTSIDE_ISSUERS")
        assert "\n" not in str(caught.value)

    def test_one_issuer_stands_there_once_however_it_is_spelled(self) -> None:
        both = [
            {"issuer": name, "audience": "a", "jwks_url": "https://www.googleapis.com/oauth2/v3/certs"}
            for name in (GOOGLE, "accounts.google.com")
        ]
        with pytest.raises(StartupError, match="twice"):
            outside_issuers(make_settings(outside_issuers=orjson.dumps(both).decode()))

    def test_keys_come_over_https_unless_local(self) -> None:
        one = '[{"issuer": "https://a.example", "audience": "a", "jwks_url": "http://a.example/k"}]'
        settings = make_settings(app_env="staging", outside_issuers=one, twilio_auth_token=LOCAL_AUTH_TOKEN + "not")
        with pytest.raises(StartupError, match=r"0\.jwks_url: must start with https"):
            outside_issuers(settings)
        assert outside_issuers(make_settings(outside_issuers=one))
