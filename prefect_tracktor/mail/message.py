"""From rendered words to one e-mail message to one address."""

import hashlib
import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from email_validator import EmailNotValidError, validate_email

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.mail.template import RenderedEmail, one_line

# bodies beyond ASCII are encoded, so that every mail server takes them
_POLICY = SMTP.clone(cte_type="7bit")
_LONGEST_NAME = 100
_MAILBOX = re.compile(r'(?P<quote>"?)(?P<name>[^"<>@]*)(?P=quote)\s*<(?P<address>[^<>]*)>')


def validated_address(value: str, *, field: str) -> str:
    """Check that a text is exactly one e-mail address, and nothing else.

    Args:
        value: The candidate, without a display name.
        field: What to call it in the error.

    Returns:
        The address in its normal form; a domain beyond ASCII in its ASCII form.

    Raises:
        InvalidInput: It is none, or more than one; the message does not repeat it.

    Example:
        >>> validated_address("Ada@Example.COM", field="order_email")
        'Ada@example.com'
    """
    text = value.strip(" ")
    if not text:
        raise InvalidInput(f"{field} is empty: it must be one e-mail address")
    try:
        address = validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        # not chained: the validator quotes parts of the address
        raise InvalidInput(
            f"{field} is not valid: it must be exactly one e-mail address, without a name, a list"
            " or line breaks"
        ) from None
    return f"{address.local_part}@{address.ascii_domain}"


def parse_mailbox(value: str, *, field: str) -> Address:
    """Read a sender: an address, with or without a name before it.

    Args:
        value: Such as `Your Shop <orders@your-shop.example>`.
        field: What to call it in the error.

    Returns:
        The address with its display name.

    Raises:
        InvalidInput: It is not one address of that form.

    Example:
        >>> str(parse_mailbox("Your Shop <orders@your-shop.example>", field="sender"))
        'Your Shop <orders@your-shop.example>'
    """
    mailbox = _MAILBOX.fullmatch(value.strip(" "))
    name, address = (mailbox["name"].strip(), mailbox["address"]) if mailbox else ("", value)
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f"{field} has a name that is too long, or holds control characters: write it as"
            " 'Your Shop <orders@your-shop.example>'"
        )
    local, _, domain = validated_address(address, field=field).rpartition("@")
    if not local.isascii():
        raise InvalidInput(
            f"{field} has letters beyond ASCII before the @, which many mail servers refuse: use"
            " another address"
        )
    return Address(display_name=name, username=local, domain=domain)


def compose(
    rendered: RenderedEmail,
    *,
    sender: Address,
    recipient: str,
    reply_to: Address | None,
    message_key: str,
) -> EmailMessage:
    """Put a message together: both parts, and headers that no customer's text gets into.

    Args:
        rendered: Subject, text and HTML.
        sender: Who writes.
        recipient: The one address that it goes to.
        reply_to: Where answers go; the sender by default.
        message_key: What the message is about; the same key gives the same Message-ID.

    Returns:
        The message.

    Raises:
        InvalidInput: The recipient is not exactly one address.

    Example:
        >>> message = compose(
        ...     RenderedEmail(subject="Hello", text="Hello.", html="<p>Hello.</p>"),
        ...     sender=Address("Your Shop", "orders", "your-shop.example"),
        ...     recipient="ada@example.com",
        ...     reply_to=None,
        ...     message_key="order 1",
        ... )
        >>> message["To"], message["Auto-Submitted"], message["Message-ID"][:10]
        ('ada@example.com', 'auto-generated', '<tracktor.')
    """
    to = validated_address(recipient, field="recipient")
    local, _, domain = to.rpartition("@")
    digest = hashlib.sha256(message_key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    message = EmailMessage(policy=_POLICY.clone(utf8=not to.isascii()))
    message["From"] = _in_one_line(sender)
    message["To"] = Address(username=local, domain=domain)
    message["Reply-To"] = _in_one_line(reply_to or sender)
    message["Subject"] = rendered.subject
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = f"<tracktor.{digest}@{sender.domain}>"
    # so that holiday notes are not sent in answer
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    return message


def _in_one_line(mailbox: Address) -> Address:
    """The standard library lets control characters other than line breaks pass."""
    return Address(one_line(mailbox.display_name), mailbox.username, mailbox.domain)
