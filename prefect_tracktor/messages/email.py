"""From rendered words to one email message to one address."""

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
    """Headers go out as they were written: the standard library decodes what it folds."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, str(value)


# bodies beyond ASCII are encoded, so that every mail server takes them
_POLICY = _AsWritten(linesep="\r\n", cte_type="7bit", refold_source="none")

_HEADERS = (
    *("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type"),
)
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)")
_PARTS = ("multipart/alternative", "text/plain", "text/html")

# white space that exports and people leave around an address; a line break is none of it
_AROUND = " \t\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff"
# dots where RFC 5321 wants none, as some providers have given out: only quoted it is valid
_ODD_DOTS = re.compile(r"(?P<quote>\"?)(?P<name>[\w!#$%&'*+/=?^`{|}~.-]{1,62})(?P=quote)", re.ASCII)
_LONGEST_NAME = 100
_MAILBOX = re.compile(r'(?P<quote>"?)(?P<name>[^"<>@]*)(?P=quote)\s*<(?P<address>[^<>]*)>')


def validated_address(value: str, *, field: str) -> str:
    """Check that a text is exactly one email address, and nothing else."""
    text = value.strip(_AROUND)
    if not text:
        raise InvalidInput(f"{field} is empty: it must be one email address")
    # the dot that ends a full domain name, or a sentence
    text = text.removesuffix(".")
    address = _read(text) or _read(_with_odd_dots_quoted(text))
    if not address:
        raise InvalidInput(
            f"{field} is not valid: it must be exactly one email address, without a name, a list"
            " or line breaks"
        ) from None
    return address


def _read(text: str) -> str:
    if "=?" in text:  # some programs decode what looks encoded, wherever it stands
        return ""
    from email_validator import EmailNotValidError, validate_email  # 11 ms, and only for mail

    try:
        address = validate_email(text, check_deliverability=False, allow_quoted_local=True)
    except EmailNotValidError:
        return ""
    if address.local_part.startswith('"') and not _ODD_DOTS.fullmatch(address.local_part):
        return ""
    return f"{address.local_part}@{address.ascii_domain}"


def _with_odd_dots_quoted(text: str) -> str:
    local, _, domain = text.rpartition("@")
    odd = _ODD_DOTS.fullmatch(local)
    return f'"{odd["name"]}"@{domain}' if odd else ""


def parse_mailbox(value: str, *, field: str) -> Address:
    """Read a sender: an address, with or without a name before it."""
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
    """Put a message together: both parts, and headers that no customer's text gets into.

    An attachment is a CSV file: its name, and what it holds.
    """
    to = validated_address(recipient, field="recipient")
    digest = hashlib.sha256(message_key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    message = EmailMessage(policy=_POLICY.clone(utf8=not to.isascii()))
    message["From"] = _mailbox(sender)
    message["To"] = to
    message["Reply-To"] = _mailbox(reply_to or sender)
    message["Subject"] = _not_decodable(rendered.subject, header="Subject")
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<tracktor.{digest}@{sender.domain}>"
    # so that holiday notes are not sent in answer
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    _check(message, rendered, {"From": sender.addr_spec, "To": to})
    if attachment:
        name, content = attachment
        # with a byte order mark, by which spreadsheets know the encoding
        content_bytes = content.encode("utf-8-sig", "replace")
        message.add_attachment(content_bytes, maintype="text", subtype="csv", filename=name)
    return message


def wire_form(message: EmailMessage, *, utf8: bool) -> bytes:
    r"""The message's bytes as they are sent."""
    return message.as_bytes(policy=_POLICY.clone(utf8=utf8))


def _not_decodable(text: str, *, header: str) -> str:
    """A text for a header that reads back as itself, even if it looks encoded already."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name=header).encode(linesep="\r\n")


def _mailbox(mailbox: Address) -> str:
    # the standard library lets control characters other than line breaks pass
    name = one_line(mailbox.display_name)
    if not name:
        return mailbox.addr_spec
    shown = _not_decodable(name, header="Reply-To")
    return (
        f'"{quote(name)}" <{mailbox.addr_spec}>'
        if shown == name
        else f"{shown} <{mailbox.addr_spec}>"
    )


def _check(message: EmailMessage, rendered: RenderedEmail, addresses: dict[str, str]) -> None:
    """Read the finished message as its receiver will, whatever was put into it."""
    raw = wire_form(message, utf8=not addresses["To"].isascii())
    read = message_from_string(raw.decode(), policy=SMTP)
    parts = list(read.walk())
    found = {
        "headers": tuple(read.keys()),
        "parts": tuple(part.get_content_type() for part in parts),
        "subject": str(read["Subject"]),
        "text": [part.get_content().split() for part in parts[1:]],
    } | {name: [f"{a.username}@{a.domain}" for a in read[name].addresses] for name in addresses}
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
