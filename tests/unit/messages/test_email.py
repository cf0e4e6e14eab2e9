"""Email messages: addresses, headers, MIME parts."""

import re
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.email import compose, parse_mailbox, validated_address
from prefect_tracktor.messages.template import RenderedEmail

SENDER = Address("Your Shop", "orders", "shop.example")
HEADERS = [
    *("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type"),
]

# pieces, since text() makes no half surrogate pairs
wild = st.lists(
    st.one_of(
        st.sampled_from('\r\n\0\t\x0b\x1c\x85\u2028\u2029\ud800\udcff\udfff,;:<>@"\\=?_ ()[].'),
        st.text(max_size=20),
    ),
    max_size=20,
).map("".join)


def composed(
    *,
    subject: str = "Hello",
    text: str = "Hello.\n",
    html: str = "<p>Hello.</p>\n",
    sender: Address = SENDER,
    recipient: str = "ada@example.com",
    reply_to: Address | None = None,
    message_key: str = "order 1",
) -> EmailMessage:
    return compose(
        RenderedEmail(subject, text, html),
        sender=sender,
        recipient=recipient,
        reply_to=reply_to,
        message_key=message_key,
    )


def received(message: EmailMessage) -> EmailMessage:
    """Parse a message as its receiver does."""
    return message_from_bytes(message.as_bytes(), policy=policy.default)


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert isinstance(body, EmailMessage)
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


def names_of(head: bytes) -> list[str]:
    """Return the names of headers without control characters."""
    lines = head.decode("ascii").split("\r\n")
    assert not any(re.search(r"[^\t -~]", line) for line in lines)
    return [line.partition(":")[0] for line in lines if not line.startswith((" ", "\t"))]


def test_text_and_html_arrive_unchanged() -> None:
    message = received(
        composed(
            subject="Où est 李? 🦊", text="Grüße\n.\n..\nFrom here\n", html=f"<p>{'é' * 5000}</p>\n"
        )
    )
    assert message["Subject"] == "Où est 李? 🦊"
    assert message.get_content_type() == "multipart/alternative"
    assert part(message, "plain") == "Grüße\n.\n..\nFrom here\n"
    assert part(message, "html") == f"<p>{'é' * 5000}</p>\n"


def test_messages_are_ascii_with_short_lines() -> None:
    raw = composed(text="é" * 3000, html="x" * 3000, subject="é" * 150).as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) < 998


def test_equal_keys_give_equal_message_ids() -> None:
    first, again, other = (composed(message_key=key)["Message-ID"] for key in ("a", "a", "b"))
    assert first == again != other
    assert first.startswith("<tracktor.")
    assert first.endswith("@shop.example>")


def test_replies_go_to_the_sender_unless_reply_to_is_set() -> None:
    assert received(composed())["Reply-To"] == "Your Shop <orders@shop.example>"
    with_reply_to = composed(reply_to=Address("", "help", "shop.example"))
    assert received(with_reply_to)["Reply-To"] == "help@shop.example"


def test_messages_are_marked_as_auto_generated() -> None:
    assert received(composed())["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("recipient", ["zoë@example.com", "zoë@münchen.example"])
def test_a_non_ascii_address_is_written_in_utf8(recipient: str) -> None:
    raw = composed(recipient=recipient, subject="é").as_bytes()
    [to] = re.findall("^To: (.*)\r$", raw.decode("utf-8"), re.MULTILINE)
    assert to in {"zoë@example.com", "zoë@xn--mnchen-3ya.example"}


@given(subject=wild, text=wild, html=wild, key=wild)
def test_no_text_can_add_a_header(subject: str, text: str, html: str, key: str) -> None:
    rendered = RenderedEmail(f"x{subject}", text, html)
    raw = composed(subject=f"x{subject}", text=text, html=html, message_key=key).as_bytes()
    head, _, _ = raw.partition(b"\r\n\r\n")
    assert names_of(head) == HEADERS
    message = message_from_bytes(raw, policy=policy.default)
    assert [to.addr_spec for to in message["To"].addresses] == ["ada@example.com"]
    assert message["Subject"] == rendered.subject
    parts = [one.get_content_type() for one in message.walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    assert part(message, "plain").split() == rendered.text.split()
    assert part(message, "html").split() == rendered.html.split()


ENCODED = [
    "=?utf-8?q?Ann=0D=0ABcc:_eve@evil.example=0D=0A=0D=0A<h1>Pay_again</h1>?=",
    "=?utf-8?b?QW5uDQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    "=?iso-8859-1?q?Ann=0AReply-To:_eve@evil.example?=",
    "Ann =?utf-8?q?=3D=3Futf-8=3Fq=3FA=3F=3D?= =?utf-8?q?=0D=0A?=",
    "=?utf-8*en?q?Ann=0D=0ABcc:_eve@evil.example?=",
    f"{'x' * 70} =?utf-8?q?=0D=0ABcc:_eve@evil.example?= é",
    "=?",
    "?=",
]


@pytest.mark.parametrize("text", ENCODED)
def test_text_that_looks_encoded_is_not_decoded(text: str) -> None:
    message = composed(subject=text, sender=Address(text, "orders", "shop.example"))
    raw = message.as_bytes()
    head, _, _ = raw.partition(b"\r\n\r\n")
    assert names_of(head) == HEADERS
    read = message_from_bytes(raw, policy=policy.default)
    assert read["Subject"] == text
    for header in ("From", "Reply-To"):
        [mailbox] = read[header].addresses
        # Python adds a space between the encoded pieces of a long name
        assert mailbox.display_name.replace(" ", "") == text.replace(" ", "")
        assert mailbox.addr_spec == "orders@shop.example"


@given(st.lists(st.sampled_from([*ENCODED, "=?utf-8?q?", "?=", " ", "é", "=0D=0A"]), max_size=6))
def test_pieces_of_encoded_words_are_not_decoded(pieces: list[str]) -> None:
    subject = RenderedEmail(f"x{''.join(pieces)}", "", "").subject
    raw = composed(subject=subject).as_bytes()
    head, _, _ = raw.partition(b"\r\n\r\n")
    assert names_of(head) == HEADERS
    assert message_from_bytes(raw, policy=policy.default)["Subject"] == subject


def test_a_message_that_does_not_read_back_as_written_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "prefect_tracktor.messages.email.hashlib.sha256",
        lambda _key: type(
            "Digest", (), {"hexdigest": lambda _self: "x>\r\nBcc: eve@example.com"}
        )(),
    )
    with pytest.raises(InvalidInput, match="does not read back as it was written"):
        composed()


@given(name=wild)
def test_a_senders_name_cannot_add_a_header(name: str) -> None:
    try:
        sender = Address(name, "orders", "shop.example")
    except ValueError:  # Address refuses line breaks
        return
    for reply_to in (None, Address(name, "help", "shop.example")):
        raw = composed(sender=sender, reply_to=reply_to).as_bytes()
        head, _, _ = raw.partition(b"\r\n\r\n")
        assert names_of(head) == HEADERS
        message = message_from_bytes(raw, policy=policy.default)
        assert [a.addr_spec for a in message["From"].addresses] == [sender.addr_spec]
        replies = (reply_to or sender).addr_spec
        assert [a.addr_spec for a in message["Reply-To"].addresses] == [replies]


def test_misplaced_dots_are_quoted() -> None:
    message = composed(recipient="ada..lovelace.@docomo.example.com")
    assert b'\r\nTo: "ada..lovelace."@docomo.example.com\r\n' in message.as_bytes()
    [to] = received(message)["To"].addresses
    assert (to.username, to.domain) == ("ada..lovelace.", "docomo.example.com")


@given(recipient=wild)
def test_a_message_has_exactly_one_recipient(recipient: str) -> None:
    try:
        message = composed(recipient=f"{recipient}@example.com")
    except InvalidInput:
        return
    [_] = received(message)["To"].addresses


NOT_ONE_ADDRESS = [
    "",
    " ",
    "ada",
    "ada@",
    "@example.com",
    "ada@example.com,eve@example.com",
    "ada@example.com;eve@example.com",
    "ada@example.com eve@example.com",
    "Ada <ada@example.com>",
    "<ada@example.com>",
    "ada@example.com\r\nBcc: eve@example.com",
    "ada@example.com\n",
    "ada\0@example.com",
    "ada@exam\u2028ple.com",
    "\ud800@example.com",
    '"ada eve"@example.com',
    "ada@[127.0.0.1]",
    "ada@localhost",
    "ada@example..com",
    "ada@example.com..",
    "ada..eve@[127.0.0.1]",
    '"ada..\\" eve"@example.com',
    "=?utf-8?q?ada=0D=0ABcc:_eve?=@example.com",
    "ada@=?utf-8?q?example?=.com",
]


@pytest.mark.parametrize("value", NOT_ONE_ADDRESS)
def test_anything_but_one_address_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(InvalidInput, match="order_email is") as refused:
        validated_address(value, field="order_email")
    assert "ada" not in str(refused.value)
    assert refused.value.__context__ is None
    with pytest.raises(InvalidInput):
        composed(recipient=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" ada@Example.COM ", "ada@example.com"),
        ("o'neil+x@example.com", "o'neil+x@example.com"),
        ("ada@münchen.example", "ada@xn--mnchen-3ya.example"),
        ("zoe\u0308@example.com", "zoë@example.com"),
        ("\tada@example.com\u00a0", "ada@example.com"),
        ("\ufeffada@example.com\u200b", "ada@example.com"),
        ("ada@example.com.", "ada@example.com"),
        ("ada..lovelace@docomo.example.com", '"ada..lovelace"@docomo.example.com'),
        ("ada.@docomo.example.com", '"ada."@docomo.example.com'),
        (".ada-@ezweb.example.com", '".ada-"@ezweb.example.com'),
        ('"ada.."@docomo.example.com', '"ada.."@docomo.example.com'),
        ('"ada"@example.com', "ada@example.com"),
    ],
)
def test_addresses_are_normalized(value: str, expected: str) -> None:
    assert validated_address(value, field="order_email") == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("orders@shop.example", ""),
        ("<orders@shop.example>", ""),
        ("Your Shop <orders@shop.example>", "Your Shop"),
        ('"Müller, Söhne & Co." <orders@shop.example>', "Müller, Söhne & Co."),
        ("Müller, Söhne & Co. <orders@shop.example>", "Müller, Söhne & Co."),
    ],
)
def test_a_sender_may_have_a_name(value: str, name: str) -> None:
    mailbox = parse_mailbox(value, field="sender")
    assert (mailbox.display_name, mailbox.addr_spec) == (name, "orders@shop.example")
    [written] = received(composed(sender=mailbox))["From"].addresses
    assert (written.display_name, written.addr_spec) == (name, "orders@shop.example")


@pytest.mark.parametrize(
    "value",
    [
        *(
            value
            for value in NOT_ONE_ADDRESS
            if value != "<ada@example.com>" and "Ada <" not in value
        ),
        "ada@example.com, Shop <eve@example.com>",
        "Shop <ada@example.com>, eve@example.com",
        "Shop <ada@example.com> <eve@example.com>",
        "Shop\r\nBcc: eve <ada@example.com>",
        "Shop\0 <ada@example.com>",
        f"{'x' * 101} <ada@example.com>",
        "zoë@example.com",
    ],
)
def test_anything_but_one_sender_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="sender "):
        parse_mailbox(value, field="sender")
