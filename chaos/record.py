"""What was seen from outside while everything broke, in plain values: all that is counted is in here."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class WebhookTry:
    """One webhook request, as the provider made it."""

    message: str
    """The provider's id of the message it was about."""
    kind: str
    """text or status."""
    status_code: int | None
    """None: no answer came."""
    latency_ms: float
    is_fallback: bool = False

    @property
    def is_acknowledged(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


@dataclass(slots=True)
class PhoneText:
    """A text that a phone sent to the organisation. A phone sends its next one when this one's delivery has ended."""

    sid: str
    phone: str
    place: int
    """Its place among the texts of its phone, from 0."""
    is_acknowledged: bool = False


@dataclass(slots=True)
class Send:
    """A message that a client asked for. Those of one phone and priority are asked for one after the other."""

    key: str
    phone: str
    priority: str
    place: int
    """Its place among those of its phone and priority, from 0."""
    body: str
    """Its own, or that of the one before it."""
    message_ids: list[str] = field(default_factory=list)
    """What 202 named, without repetitions: one, unless the key made two messages. Empty: never accepted."""
    tries: int = 0
    """Requests, until the client had what it wanted."""
    attempts: int = 0
    """Calls to providers."""
    was_unknown: bool = False
    """For a while nobody could tell whether a provider had it."""


@dataclass(slots=True)
class Arrival:
    """A message that a provider accepted, in the order of acceptance."""

    number: int
    provider: str
    message: str
    phone: str
    body: str
    has_arrived: bool
    accepted_s: float = 0.0
    """Seconds of the simulator's steady clock."""


@dataclass(slots=True)
class Stored:
    """A message as the history shows it; a conversation's are in its order."""

    id: str
    phone: str
    sid: str | None
    is_inbound: bool
    status: str
    is_understood: bool = True
    """Its language was looked into, and its phone's tenant."""


@dataclass(slots=True)
class Sighting:
    """A status as the API showed it: it held at some moment between a question and its answer.

    Answers overtake each other, so only what was asked after another answer had come is known to be later.
    """

    status: str
    last_asked_s: float
    """When the last question was put that was answered like this."""
    first_answered_s: float
    """When the first answer of this kind came."""


@dataclass(slots=True)
class Evidence:
    """Everything that one run has shown."""

    texts: list[PhoneText] = field(default_factory=list)
    webhooks: list[WebhookTry] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    history: list[Stored] = field(default_factory=list)
    sightings: dict[str, list[Sighting]] = field(default_factory=dict)
    """The statuses of each message, by our id, in the order in which the answers came; equal neighbours once."""
    dead: set[str] = field(default_factory=set)
    """Messages that wait for a person, by our id."""
    open_work: dict[str, int] = field(default_factory=dict)
    """Rows of work that should be done, by kind."""
    refusals: list[str] = field(default_factory=list)
    """Valid requests that were answered with anything but success or 503."""
    accidents: list[str] = field(default_factory=list)
    """Processes that ended by themselves, or did not end when told to."""
    unsettled: list[str] = field(default_factory=list)
    """What was still going on when patience ran out; empty: it settled."""
    is_reconciled: bool = False
    """Whether the providers were asked for texts that no webhook had brought, when none was too young for that."""
    reads: int = 0

    def see(self, message_id: str, status: str, asked_s: float, answered_s: float) -> None:
        """Note that a message was shown with this status, and when on one steady clock that was asked and answered."""
        seen = self.sightings.setdefault(message_id, [])
        if seen and seen[-1].status == status:
            seen[-1].last_asked_s = max(seen[-1].last_asked_s, asked_s)
        else:
            seen.append(Sighting(status, asked_s, answered_s))
