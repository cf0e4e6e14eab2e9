"""From rendered words to one e-mail message to one address."""

import hashlib
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from email_validator import EmailNotValidError, validate_email

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.mail.template import RenderedEmail

_LONGEST_NAME = 100
# bodies beyond ASCII are encoded, so that every mail server takes them
_POLICY = SMTP.clone(cte_type="7bit")


def validated_address(value: str, *, field: str) -> str:
    """Check that a text is exactly one e-mail address, and nothing else.

    Args:
        value: The candidate, without a display name.
        field: What to call it in the error.

    Returns:
        The address in its normal form.

    Raises:
        InvalidInput: It is none, or more than one; the message does not repeat it.

    Example:
        >>> validated_address("Ada@Example.COM", field="order_email")
        'Ada@example.com'
    """
    if not value.strip():
        raise InvalidInput(f"{field} is empty")
    try:
        address = validate_email(value.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise InvalidInput(
            f"{field} is not one valid e-mail address such as orders@your-shop.example"
        ) from None
    return f"{address.local_part}@{address.ascii_domain or address.domain}"


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
    name, address = parseaddr(value)
    if not value.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidInput(f"{field} must be of the form 'Your Shop <orders@your-shop.example>'")
    local, _, domain = validated_address(address, field=field).rpartition("@")
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
        recipient: The one address that it goes to, validated.
        reply_to: Where answers go; the sender by default.
        message_key: What the message is about; the same key gives the same Message-ID.

    Returns:
        The message.

    Example:
        >>> message = compose(
        ...     RenderedEmail(subject="Hello", text="Hello.", html="<p>Hello.</p>"),
        ...     sender=Address("Your Shop", "orders", "your-shop.example"),
        ...     recipient="ada@example.com",
        ...     reply_to=None,
        ...     message_key="order 1",
        ... )
        >>> message["To"], message["Auto-Submitted"], message["Message-ID"][:16]
        ('ada@example.com', 'auto-generated', '<tracktor.ae2ae7')
    """
    local, _, domain = recipient.rpartition("@")
    digest = hashlib.sha256(message_key.encode()).hexdigest()[:32]
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(username=local, domain=domain)
    message["Reply-To"] = reply_to or sender
    message["Subject"] = rendered.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<tracktor.{digest}@{sender.domain}>"
    # so that holiday notes are not sent in answer
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    return message
