"""Sending letters so that nobody gets one twice: claim, send, settle."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.headerregistry import Address
from email.message import EmailMessage
from enum import StrEnum

from prefect_email import EmailServerCredentials

from prefect_tracktor.mail.ledger import NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.mail.message import compose, validated_address
from prefect_tracktor.mail.smtp import DeliveryOutcome, MailServerError, MailSession
from prefect_tracktor.mail.template import EmailTemplate, ShopInfo
from prefect_tracktor.models import Fulfillment, Order


class Outcome(StrEnum):
    """What became of a letter.

    Example:
        >>> Outcome("deferred").label
        'Deferred to the next run'
    """

    SENT = "sent"
    ALREADY_TOLD = "already_told"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    SUPERSEDED = "superseded"

    @property
    def label(self) -> str:
        """The outcome in words, for people."""
        return _LABELS[self]


_LABELS = {
    Outcome.SENT: "Sent",
    Outcome.ALREADY_TOLD: "Already told",
    Outcome.REFUSED: "Refused for good",
    Outcome.DEFERRED: "Deferred to the next run",
    Outcome.UNCERTAIN: "Uncertain: a person must look",
    Outcome.SUPERSEDED: "Superseded, not sent",
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to go, and what it tells about.

    Attributes:
        order_id: The order it is about.
        sender: The sender's bare address.
        recipient: The one address it goes to.
        message: The message itself.
        keys: What the customer will have been told once it is sent; empty for a rehearsal, which
            tells the customer nothing and may be repeated.
        look_again: What is asked just before it is sent: the letter as it must be by then, or what
            became of it instead.

    Example:
        >>> Letter(1, "shop@example.com", "ada@example.com", EmailMessage(), ()).order_id
        1
    """

    order_id: int
    sender: str
    recipient: str
    message: EmailMessage
    keys: tuple[NoticeKey, ...]
    look_again: "Callable[[], Letter | Posted] | None" = None


@dataclass(frozen=True, slots=True)
class Posted:
    """A letter's outcome.

    Attributes:
        letter: The letter.
        outcome: What became of it.
        reason: Why, in words without personal data; empty where all went well.

    Example:
        >>> letter = Letter(1, "shop@example.com", "ada@example.com", EmailMessage(), ())
        >>> Posted(letter, Outcome.SENT).reason
        ''
    """

    letter: Letter
    outcome: Outcome
    reason: str = ""


_OUTCOMES = {
    DeliveryOutcome.SENT: Outcome.SENT,
    DeliveryOutcome.REFUSED: Outcome.REFUSED,
    DeliveryOutcome.DEFERRED: Outcome.DEFERRED,
    DeliveryOutcome.UNCERTAIN: Outcome.UNCERTAIN,
}


@dataclass(frozen=True, slots=True)
class Correspondence:
    """How one run writes to customers: in whose name, and through which server.

    Attributes:
        account: The Tracktor account's name, for the ledger's keys.
        run: The run's name, so that a person finds it again.
        server: The mail server.
        ledger: Who was told what.
        sender: Who writes.
        reply_to: Where answers go, if not to the sender.
        redirect_to: The address that gets all messages in a rehearsal.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> from prefect_tracktor import EmailTemplate
        >>> correspondence = Correspondence(
        ...     account="shop",
        ...     run="first",
        ...     server=EmailServerCredentials(smtp_server="smtp.example.com"),
        ...     ledger=ledger,
        ...     sender=Address("Your Shop", "orders", "shop.example"),
        ... )
        >>> order = Order(order_id=1, order_name="#1001", order_email="ada@example.com")
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> key = correspondence.key(order, parcel, "exception:expired")
        >>> correspondence.letter(order, {key: parcel}, EmailTemplate()).recipient
        'ada@example.com'
    """

    account: str
    run: str
    server: EmailServerCredentials
    ledger: NotificationLedger
    sender: Address
    reply_to: Address | None = None
    redirect_to: str | None = None

    def check(self) -> None:
        """See that ledger and mail server can be used, before anything is spent on reading.

        Raises:
            LedgerError: The ledger cannot be reached.
            MailServerError: The mail server cannot be reached, or refuses the login.
        """
        self.ledger.states(())
        with MailSession(self.server):
            pass

    def key(self, order: Order, parcel: Fulfillment, reason: str) -> NoticeKey:
        """What the ledger remembers a notice by.

        Args:
            order: The order.
            parcel: The parcel that the customer is told about.
            reason: What the customer is told, such as `exception:expired`.

        Returns:
            The key.
        """
        return NoticeKey(self.account, order.order_id, parcel.fulfillment_id, reason)

    def letter(
        self, order: Order, parcels: Mapping[NoticeKey, Fulfillment], template: EmailTemplate
    ) -> Letter:
        """Render the message to an order's customer.

        Args:
            order: The order.
            parcels: The parcels to tell about, by key.
            template: The words.

        Returns:
            The letter, ready to be posted.

        Raises:
            InvalidInput: The order has no usable e-mail address.
            TemplateError: The template fails for this order.
        """
        customer = validated_address(order.order_email or "", field="order_email")
        fulfillments = list(parcels.values())
        shop_url = next((parcel.shop_url for parcel in fulfillments if parcel.shop_url), "")
        shop = ShopInfo(name=self.sender.display_name or self.sender.domain, url=shop_url)
        rendered = template.render(order, fulfillments, shop=shop)
        keys = tuple(sorted(parcels))
        if self.redirect_to:
            rendered = replace(rendered, subject=f"[Rehearsal] {rendered.subject}")
        message = compose(
            rendered,
            sender=self.sender,
            recipient=self.redirect_to or customer,
            reply_to=self.reply_to,
            message_key=f"{self.run if self.redirect_to else ''}{keys}",
        )
        return Letter(
            order_id=order.order_id,
            sender=self.sender.addr_spec,
            recipient=self.redirect_to or customer,
            message=message,
            # a rehearsal tells the customer nothing
            keys=() if self.redirect_to else keys,
        )

    def post(self, letters: Iterable[Letter]) -> Iterator[Posted]:
        """Send letters in one session, each only if nobody else has sent or is sending it.

        Args:
            letters: What to send.

        Yields:
            Each letter's outcome, as it becomes known.

        Raises:
            MailServerError: The mail server cannot be used; nothing was sent.
            LedgerError: The ledger is gone; the letter in hand was not sent, or is uncertain.
        """
        with MailSession(self.server) as session:
            yield from post(letters, session=session, ledger=self.ledger, run=self.run)


def post(
    letters: Iterable[Letter], *, session: MailSession, ledger: NotificationLedger, run: str
) -> Iterator[Posted]:
    """Send letters one after another, each only if nobody else has sent or is sending it.

    A letter is claimed in the ledger just before it is sent and settled right after, so that a
    process which is killed leaves one letter uncertain, never one sent twice.

    Args:
        letters: What to send.
        session: An open session with the mail server.
        ledger: Who was told what.
        run: A name for this run, so that a person finds it again.

    Yields:
        Each letter's outcome, as it becomes known.

    Raises:
        LedgerError: The ledger cannot be reached; the letter in hand was not sent, or is uncertain.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> from prefect_tracktor.sandbox import MailServer
        >>> message = EmailMessage()
        >>> message["Subject"] = "Hello"
        >>> key = NoticeKey("shop", 1, 7, "exception:expired")
        >>> letter = Letter(1, "shop@example.com", "ada@example.com", message, (key,))
        >>> with MailServer() as server:
        ...     block = EmailServerCredentials(
        ...         smtp_server=server.host, smtp_port=server.port, smtp_type="INSECURE"
        ...     )
        ...     with MailSession(block) as session:
        ...         first, again = post([letter] * 2, session=session, ledger=ledger, run="r")
        >>> first.outcome.value, again.outcome.value
        ('sent', 'already_told')
    """
    waiting = iter(letters)
    for letter in waiting:
        try:
            yield _post_one(letter, session, ledger, run)
        except MailServerError as down:
            yield Posted(letter, Outcome.DEFERRED, str(down))
            reason = "not tried: the mail server did not take the letters before it"
            yield from (Posted(rest, Outcome.DEFERRED, reason) for rest in waiting)


def _post_one(letter: Letter, session: MailSession, ledger: NotificationLedger, run: str) -> Posted:
    now = letter.look_again() if letter.look_again else letter
    if isinstance(now, Posted):
        return now
    letter = now
    won = ledger.claim(letter.keys, run=run)
    if won != set(letter.keys):
        ledger.give_back(won, run=run)
        return _told_by_others(letter, ledger)
    try:
        delivery = session.send(letter.message, sender=letter.sender, recipient=letter.recipient)
    except MailServerError:
        ledger.give_back(letter.keys, run=run)
        raise
    outcome = _OUTCOMES[delivery.outcome]
    if outcome is Outcome.SENT:
        ledger.settle(letter.keys, NoticeState.SENT, run=run)
    elif outcome is Outcome.REFUSED:
        ledger.settle(letter.keys, NoticeState.REFUSED, run=run)
    elif outcome is Outcome.DEFERRED:
        ledger.give_back(letter.keys, run=run)
    return Posted(letter, outcome, delivery.reason)


def _told_by_others(letter: Letter, ledger: NotificationLedger) -> Posted:
    """Another run was faster with at least a part of it."""
    states = ledger.states(letter.keys)
    return Posted(letter, outcome_of(map(states.get, letter.keys)))


def outcome_of(states: Iterable[NoticeState | None]) -> Outcome:
    """What the ledger's states of an order's parcels mean for the order as a whole.

    Args:
        states: The state of each parcel's notice; `None` where nobody has claimed it.

    Returns:
        `UNCERTAIN` if any claim is open, else `DEFERRED` if any parcel is not told about, else
        `ALREADY_TOLD` if anything was sent, else `REFUSED`.

    Example:
        >>> outcome_of([NoticeState.SENT, NoticeState.CLAIMED]).value
        'uncertain'
    """
    found = set(states)
    if NoticeState.CLAIMED in found:
        return Outcome.UNCERTAIN
    if None in found:
        return Outcome.DEFERRED
    return Outcome.ALREADY_TOLD if NoticeState.SENT in found else Outcome.REFUSED
