"""Email messages: validated addresses, safe headers, MIME parts."""

import hashlib
import re
from datetime import UTC, datetime
from email import message_from_string
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime, quote
from typing import Any

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.template import RenderedEmail
from prefect_tracktor.messages.values import one_line


class _AsWritten(EmailPolicy):
    """Headers as written: the standard library would decode those that it folds."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, str(value)

    def header_fetch_parse(self, _name: str, value: str) -> Any:
        # parsing a header each time it is read took a third of the time of a message
        return value


# bodies beyond ASCII are encoded, so that every mail server takes them
_POLICY = _AsWritten(linesep="\r\n", cte_type="7bit", refold_source="none")

_HEADERS = (
    "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version",
    "Content-Type",
)  # fmt: skip
_PARSED_HEADERS = ("From", "To", "Subject")
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)")
_PARTS = ("multipart/alternative", "text/plain", "text/html")

# white space around an address that exports and people leave; not line breaks
_PADDING = " \t\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff"
# dots that RFC 5321 allows in quotes only, in addresses that some providers have issued
_MISPLACED_DOTS = re.compile(
    r"(?P<quote>\"?)(?P<name>[\w!#$%&'*+/=?^`{|}~.-]{1,62})(?P=quote)", re.ASCII
)
_LONGEST_NAME = 100
_MAILBOX = re.compile(r'(?P<quote>"?)(?P<name>[^"<>@]*)(?P=quote)\s*<(?P<address>[^<>]*)>')


def validated_address(value: str, *, field: str) -> str:
    """Return a text's email address; refuse anything but exactly one."""
    text = value.strip(_PADDING)
    if not text:
        raise InvalidInput(f"{field} is empty: it must be one email address")
    # the dot at the end of a fully qualified domain name, or of a sentence
    text = text.removesuffix(".")
    address = _parse(text) or _parse(_with_misplaced_dots_quoted(text))
    if not address:
        raise InvalidInput(
            f"{field} is not valid: it must be exactly one email address, without a name, a list"
            " or line breaks"
        )
    return address


def _parse(text: str) -> str:
    if "=?" in text:  # some programs decode encoded words anywhere
        return ""
    from email_validator import EmailNotValidError, validate_email  # 11 ms, and only for mail

    try:
        address = validate_email(text, check_deliverability=False, allow_quoted_local=True)
    except EmailNotValidError:
        return ""
    if address.local_part.startswith('"') and not _MISPLACED_DOTS.fullmatch(address.local_part):
        return ""
    return f"{address.local_part}@{address.ascii_domain}"


def _with_misplaced_dots_quoted(text: str) -> str:
    local, _, domain = text.rpartition("@")
    found = _MISPLACED_DOTS.fullmatch(local)
    return f'"{found["name"]}"@{domain}' if found else ""


def parse_mailbox(value: str, *, field: str) -> Address:
    """Parse a sender: an address, with or without a name before it."""
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
    attachment: tuple[str, str] | None = None,
) -> EmailMessage:
    """Make a message with a text and an HTML part, and headers that no customer's text can change.

    An attachment is the name and the content of a CSV file.
    """
    to = validated_address(recipient, field="recipient")
    digest = hashlib.sha256(message_key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    message = EmailMessage(policy=_POLICY.clone(utf8=not to.isascii()))
    message["From"] = _mailbox(sender)
    message["To"] = to
    message["Reply-To"] = _mailbox(reply_to or sender)
    message["Subject"] = _encoded(rendered.subject, header="Subject")
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<tracktor.{digest}@{sender.domain}>"
    # or absence notes would be sent in reply
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    _check_round_trip(message, rendered, {"From": sender.addr_spec, "To": to})
    if attachment:
        name, content = attachment
        # with a byte order mark, by which spreadsheets detect the encoding
        content_bytes = content.encode("utf-8-sig", "replace")
        message.add_attachment(content_bytes, maintype="text", subtype="csv", filename=name)
    return message


def wire_form(message: EmailMessage, *, utf8: bool) -> bytes:
    return message.as_bytes(policy=_POLICY.clone(utf8=utf8))


def _encoded(text: str, *, header: str) -> str:
    """Encode a header's text so that it reads back unchanged, even if it looks encoded."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name=header).encode(linesep="\r\n")


def _mailbox(mailbox: Address) -> str:
    # the standard library lets control characters other than line breaks pass
    name = one_line(mailbox.display_name)
    if not name:
        return mailbox.addr_spec
    encoded = _encoded(name, header="Reply-To")
    shown = f'"{quote(name)}"' if encoded == name else encoded
    return f"{shown} <{mailbox.addr_spec}>"


def _check_round_trip(
    message: EmailMessage, rendered: RenderedEmail, addresses: dict[str, str]
) -> None:
    """Parse the finished message as its receiver does, and compare it with its parts.

    A standard library that decodes a customer's name once too often must not add a recipient.
    """
    raw = wire_form(message, utf8=not addresses["To"].isascii())
    read: Any = message_from_string(raw.decode(), policy=_POLICY)
    parts: list[Any] = list(read.walk())
    # for each header once: with that policy, the whole message took twice the time
    header = {name: SMTP.header_fetch_parse(name, str(read[name])) for name in _PARSED_HEADERS}
    found = {
        "headers": tuple(read.keys()),
        "parts": tuple(part.get_content_type() for part in parts),
        "subject": str(header["Subject"]),
        "text": [part.get_content().split() for part in parts[1:]],
    } | {name: [f"{a.username}@{a.domain}" for a in header[name].addresses] for name in addresses}
    wanted = {
        "headers": _HEADERS,
        "parts": _PARTS,
        "subject": rendered.subject,
        "text": [text.split() for text in (rendered.text, rendered.html)],
    } | {name: [address.replace('"', "")] for name, address in addresses.items()}
    wrong = [what for what, value in wanted.items() if found[what] != value]
    if _CONTROL_CHARACTERS.search(raw.partition(b"\r\n\r\n")[0]):
        wrong.append("control characters")
    if wrong:
        raise InvalidInput(
            "the message does not read back as it was written, and was not sent"
            f" ({', '.join(wrong)}): please report this, with what the template says"
        )
