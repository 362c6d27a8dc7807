"""The endpoints of Twilio's Messages resource with their media, and of the two that tell where texts are handed in."""

import base64
from collections.abc import Callable
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.faults.rules import Operation
from sms_foundation.simulator.forms import API_VERSION
from sms_foundation.simulator.rest.gate import pass_gate
from sms_foundation.simulator.rest.twilio import errors
from sms_foundation.simulator.rest.twilio.errors import RefusedError, error_response
from sms_foundation.simulator.rest.twilio.listing import list_messages
from sms_foundation.simulator.rest.twilio.media import delete_media, list_media
from sms_foundation.simulator.rest.twilio.parameters import PROVIDER, Form, draft_message
from sms_foundation.simulator.rest.twilio.places import SERVICES, list_numbers, show_service
from sms_foundation.simulator.rest.twilio.resource import message_resource
from sms_foundation.simulator.settings import SimulatorSettings

PREFIX: Final = f"/{API_VERSION}/"


class TwilioRefusals:
    """How Twilio says no."""

    def rate_limited(self, retry_after_s: int | None) -> Response:
        return error_response(errors.TOO_MANY_REQUESTS, retry_after_s=retry_after_s)

    def server_error(self, status: int) -> Response:
        return errors.internal(status).response

    def account_suspended(self) -> Response:
        return errors.SUSPENDED.response

    def opted_out(self) -> Response:
        return errors.OPTED_OUT.response


class TwilioApi:
    """Serves one account. Bodies are read as forms by hand: a blank value must not get lost, it redacts."""

    def __init__(self, settings: SimulatorSettings, carrier: Carrier) -> None:
        self._settings = settings
        self._account_sid = settings.account_sid
        self._own_number = settings.phone_number
        self._carrier = carrier
        self._refusals = TwilioRefusals()
        credentials = f"{settings.account_sid}:{settings.auth_token}".encode()
        self._authorization = "Basic " + base64.b64encode(credentials).decode()

    def list_routes(self) -> list[Route]:
        base = PREFIX + "Accounts/{account_sid}/Messages"
        routes = []
        for suffix in (".json", ""):
            routes.append(Route(base + suffix, self.create, methods=["POST"]))
            routes.append(Route(base + suffix, self.list, methods=["GET"]))
            one = base + "/{sid:str}" + suffix
            routes.append(Route(one, self.fetch, methods=["GET"]))
            routes.append(Route(one, self.update, methods=["POST"]))
            routes.append(Route(one, self.delete, methods=["DELETE"]))
            media = base + "/{sid:str}/Media"
            routes.append(Route(media + suffix, self.list_media, methods=["GET"]))
            routes.append(Route(media + "/{media_sid:str}" + suffix, self.delete_media, methods=["DELETE"]))
        numbers = PREFIX + "Accounts/{account_sid}/IncomingPhoneNumbers.json"
        routes.append(Route(numbers, self.list_numbers, methods=["GET"]))
        routes.append(Route(SERVICES + "{sid:str}", self.show_service, methods=["GET"]))
        return routes

    async def create(self, request: Request) -> Response:
        """201 with the message; it is on its way."""
        form = Form.read(await request.body())
        return await self._answer(request, "send", form.get("To") or None, lambda: self._create(form))

    async def list(self, request: Request) -> Response:
        form = Form.read(request.scope["query_string"])
        return await self._answer(
            request,
            "read",
            form.get("To") or None,
            lambda: _json(list_messages(self._carrier.messages, form, self._account_sid)),
        )

    async def fetch(self, request: Request) -> Response:
        return await self._answer(request, "read", None, lambda: self._show(self._find(request)))

    async def update(self, request: Request) -> Response:
        """An empty Body redacts, Status=canceled stops a scheduled message."""
        form = Form.read(await request.body())
        return await self._answer(request, "read", None, lambda: self._update(self._find(request), form))

    async def delete(self, request: Request) -> Response:
        """204 and nothing else: the SDK takes a body for a result."""
        return await self._answer(request, "read", None, lambda: self._delete(self._find(request)))

    async def list_media(self, request: Request) -> Response:
        return await self._answer(
            request, "read", None, lambda: _json(list_media(self._find(request), self._account_sid))
        )

    async def delete_media(self, request: Request) -> Response:
        """204, or 404 for media that the message does not have."""

        def delete() -> Response:
            is_there = delete_media(self._find(request), request.path_params["media_sid"])
            return Response(status_code=204) if is_there else errors.not_found(request.url.path).response

        return await self._answer(request, "read", None, delete)

    async def list_numbers(self, request: Request) -> Response:
        wanted = Form.read(request.scope["query_string"]).find("PhoneNumber")
        return await self._answer(request, "read", None, lambda: _json(list_numbers(self._settings, wanted)))

    async def show_service(self, request: Request) -> Response:
        """Of the Messaging API, whose paths name no account."""

        def show() -> Response:
            service = show_service(self._settings, request.path_params["sid"])
            return errors.not_found(request.url.path).response if service is None else _json(service)

        return await self._answer(request, "read", None, show)

    async def _answer(
        self, request: Request, operation: Operation, number: str | None, answer: Callable[[], Response]
    ) -> Response:
        if request.headers.get("authorization") != self._authorization:
            return errors.AUTHENTICATE.response
        if request.path_params.get("account_sid", self._account_sid) != self._account_sid:
            return errors.not_found(request.url.path).response

        def answer_or_refuse() -> Response:
            try:
                return answer()
            except RefusedError as error:
                return error.error.response

        return await pass_gate(
            self._carrier, self._refusals, answer_or_refuse, provider=PROVIDER, number=number, operation=operation
        )

    def _create(self, form: Form) -> Response:
        message = draft_message(form, own_number=self._own_number, now=self._carrier.timing.now())
        if self._carrier.opt_outs.has(message.recipient, message.sender):
            raise RefusedError(errors.OPTED_OUT)
        self._carrier.accept(message)
        return self._show(message, 201)

    def _update(self, message: Message, form: Form) -> Response:
        body, status = form.find("Body"), form.find("Status")
        if status == "canceled":
            if not self._carrier.cancel(message):
                raise RefusedError(errors.NOT_CANCELABLE)
        elif body == "" and status is None:
            message.body = ""
            message.updated_at = self._carrier.timing.now()
        else:
            raise RefusedError(errors.NOT_AN_UPDATE)
        return self._show(message)

    def _delete(self, message: Message) -> Response:
        if not message.stage.is_final:
            raise RefusedError(errors.IN_PROGRESS)
        self._carrier.messages.remove(message)
        return Response(status_code=204)

    def _find(self, request: Request) -> Message:
        message = self._carrier.messages.find(PROVIDER, request.path_params["sid"])
        if message is None:
            raise RefusedError(errors.not_found(request.url.path))
        return message

    def _show(self, message: Message, status: int = 200) -> Response:
        return _json(message_resource(message, self._account_sid), status)


def _json(content: dict[str, object], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
