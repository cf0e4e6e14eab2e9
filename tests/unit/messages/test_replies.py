"""What real servers say, and what it is about."""

import pytest

from prefect_tracktor.messages.replies import About, Reply

AT_RCPT = [
    ("550 5.1.1 The email account that you tried to reach does not exist.", About.RECIPIENT, True),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", About.RECIPIENT, True),
    ("550 No such user here", About.RECIPIENT, True),
    ("452 4.2.2 The recipient's inbox is out of storage space", About.RECIPIENT, False),
    ("552 5.2.2 Mailbox full", About.RECIPIENT, False),
    ("450 4.2.0 Recipient address rejected: Greylisted", About.RECIPIENT, False),
    ("451 4.7.1 Please try again later", About.RECIPIENT, False),
    ("450 4.2.1 The user is receiving mail at a rate that prevents it", About.RECIPIENT, False),
    ("553 5.6.7 SMTPUTF8 is required", About.RECIPIENT, False),
    ("452 4.3.1 Insufficient system storage", About.OTHER, False),
    ("554 5.7.1 <ada@example.com>: Relay access denied", About.LOGIN, False),
    ("550 5.7.1 Unable to relay", About.LOGIN, False),
    ("553 5.7.1 Sender address rejected: not owned by user shop", About.SENDER, False),
    ("450 4.1.8 Sender address rejected: Domain not found", About.SENDER, False),
    ("550 5.1.90 Your message can't be sent", About.LIMIT, False),
    ("452 4.3.2 Connection rate limit exceeded", About.RATE, False),
    ("550 Requested action not taken: mailbox unavailable", About.RECIPIENT, True),
    ("550 Unrouteable address", About.RECIPIENT, True),
    ("551 User not local; please try <ada@example.com>", About.RECIPIENT, True),
    # what is not plainly about the address gives nobody up
    ("550 Account suspended", About.OTHER, False),
    ("550 Please pay your bill", About.OTHER, False),
    ("550 Temporary failure", About.OTHER, False),
    ("550 greylisted", About.OTHER, False),
    ("550 DNS lookup of the host failed: unknown host", About.OTHER, False),
    ("550 TLS required", About.OTHER, False),
    ("550 server busy", About.RATE, False),
    ("501 Syntax error", About.OTHER, False),
]
ELSEWHERE = [
    ("454 Throttling failure: Maximum sending rate exceeded.", About.RATE),
    ("454 Throttling failure: Daily message quota exceeded.", About.LIMIT),
    ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", About.RATE),
    ("421 4.4.5 Server busy, try again later.", About.RATE),
    ("421 Too many concurrent SMTP connections", About.RATE),
    ("421 4.7.28 Our system has detected an unusual rate of mail", About.RATE),
    ("451 4.7.500 Server busy. Please try again later", About.RATE),
    ("452 4.4.5 Messages per second limit exceeded", About.RATE),
    ("450 Requested action aborted: message rate is too high", About.RATE),
    ("421 Exceeded connection frequency", About.RATE),
    ("421 4.7.1 Intrusion prevention active: rate control", About.RATE),
    ("451 Quota exceeded: 20 mails per 10 seconds", About.RATE),
    ("421 4.3.2 Your IP has exceeded the maximum number of connections", About.RATE),
    ("421 Burst limit reached", About.RATE),
    ("550 5.2.0 Maximum per-day recipient limit", About.LIMIT),
    ("452 4.5.3 Daily message limit exceeded", About.LIMIT),
    ("550 5.4.5 Daily user sending limit exceeded.", About.LIMIT),
    ("451 Authentication failed: Maximum credits exceeded", About.LIMIT),
    ("530 5.7.0 Must issue a STARTTLS command first.", About.LOGIN),
    ("530 5.7.57 Client not authenticated to send mail.", About.LOGIN),
    ("530 Authentication required", About.LOGIN),
    ("535 5.7.8 Username and Password not accepted", About.LOGIN),
    ("535 5.7.139 Authentication unsuccessful", About.LOGIN),
    ("554 5.2.252 SendAsDenied; not allowed to send as", About.SENDER),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", About.SENDER),
    ("550 5.7.26 Unauthenticated email is not accepted", About.SENDER),
    ("554 Message rejected: Email address is not verified.", About.SENDER),
    ("403 You are not authorized to send from that email address", About.SENDER),
    ("421 4.3.0 Temporary system problem", About.OTHER),
    ("554 5.7.1 Looks like spam", About.OTHER),
    ("451 4.3.0 Not now", About.OTHER),
    ("550 5.1.1 No such user", About.RECIPIENT),
]


@pytest.mark.parametrize(("text", "about", "final"), AT_RCPT)
def test_an_answer_to_rcpt(text: str, about: About, final: bool) -> None:
    code, _, said = text.partition(" ")
    reply = Reply(int(code), said, to_recipient=True)
    assert (reply.about, reply.is_final) == (about, final)


@pytest.mark.parametrize(("text", "about"), ELSEWHERE)
def test_an_answer_to_anything_else_gives_no_address_up(text: str, about: About) -> None:
    code, _, said = text.partition(" ")
    reply = Reply(int(code), said)
    assert (reply.about, reply.is_final) == (about, False)


def test_equal_answers_are_known_whatever_number_the_server_puts_in() -> None:
    first, second, other = (
        Reply(550, f"5.7.{detail} Not accepted {number} gsmtp")
        for detail, number in ((26, "x1-20"), (26, "y2-30"), (1, "x1-20"))
    )
    assert first.kind == second.kind != other.kind
