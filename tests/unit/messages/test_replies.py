"""Causes of SMTP refusals, by replies of real servers."""

import pytest

from prefect_tracktor.messages.replies import Cause, Reply

AT_RCPT = [
    ("550 5.1.1 The email account that you tried to reach does not exist.", Cause.RECIPIENT, True),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", Cause.RECIPIENT, True),
    ("550 No such user here", Cause.RECIPIENT, True),
    ("452 4.2.2 The recipient's inbox is out of storage space", Cause.RECIPIENT, False),
    ("552 5.2.2 Mailbox full", Cause.RECIPIENT, False),
    ("450 4.2.0 Recipient address rejected: Greylisted", Cause.RECIPIENT, False),
    ("451 4.7.1 Please try again later", Cause.RECIPIENT, False),
    ("450 4.2.1 The user is receiving mail at a rate that prevents it", Cause.RECIPIENT, False),
    ("553 5.6.7 SMTPUTF8 is required", Cause.RECIPIENT, False),
    ("452 4.3.1 Insufficient system storage", Cause.OTHER, False),
    ("554 5.7.1 <ada@example.com>: Relay access denied", Cause.LOGIN, False),
    ("550 5.7.1 Unable to relay", Cause.LOGIN, False),
    ("553 5.7.1 Sender address rejected: not owned by user shop", Cause.SENDER, False),
    ("450 4.1.8 Sender address rejected: Domain not found", Cause.SENDER, False),
    ("550 5.1.90 Your message can't be sent", Cause.LIMIT, False),
    ("452 4.3.2 Connection rate limit exceeded", Cause.RATE, False),
    ("550 Requested action not taken: mailbox unavailable", Cause.RECIPIENT, True),
    ("550 Unrouteable address", Cause.RECIPIENT, True),
    ("551 User not local; please try <ada@example.com>", Cause.RECIPIENT, True),
    # not clearly about the address, so not final
    ("550 Account suspended", Cause.OTHER, False),
    ("550 Please pay your bill", Cause.OTHER, False),
    ("550 Temporary failure", Cause.OTHER, False),
    ("550 greylisted", Cause.OTHER, False),
    ("550 DNS lookup of the host failed: unknown host", Cause.OTHER, False),
    ("550 TLS required", Cause.OTHER, False),
    ("550 server busy", Cause.RATE, False),
    ("501 Syntax error", Cause.OTHER, False),
]
TO_OTHER_COMMANDS = [
    ("454 Throttling failure: Maximum sending rate exceeded.", Cause.RATE),
    ("454 Throttling failure: Daily message quota exceeded.", Cause.LIMIT),
    ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Cause.RATE),
    ("421 4.4.5 Server busy, try again later.", Cause.RATE),
    ("421 Too many concurrent SMTP connections", Cause.RATE),
    ("421 4.7.28 Our system has detected an unusual rate of mail", Cause.RATE),
    ("451 4.7.500 Server busy. Please try again later", Cause.RATE),
    ("452 4.4.5 Messages per second limit exceeded", Cause.RATE),
    ("450 Requested action aborted: message rate is too high", Cause.RATE),
    ("421 Exceeded connection frequency", Cause.RATE),
    ("421 4.7.1 Intrusion prevention active: rate control", Cause.RATE),
    ("451 Quota exceeded: 20 mails per 10 seconds", Cause.RATE),
    ("421 4.3.2 Your IP has exceeded the maximum number of connections", Cause.RATE),
    ("421 Burst limit reached", Cause.RATE),
    ("550 5.2.0 Maximum per-day recipient limit", Cause.LIMIT),
    ("452 4.5.3 Daily message limit exceeded", Cause.LIMIT),
    ("550 5.4.5 Daily user sending limit exceeded.", Cause.LIMIT),
    ("451 Authentication failed: Maximum credits exceeded", Cause.LIMIT),
    ("530 5.7.0 Must issue a STARTTLS command first.", Cause.LOGIN),
    ("530 5.7.57 Client not authenticated to send mail.", Cause.LOGIN),
    ("530 Authentication required", Cause.LOGIN),
    ("535 5.7.8 Username and Password not accepted", Cause.LOGIN),
    ("535 5.7.139 Authentication unsuccessful", Cause.LOGIN),
    ("554 5.2.252 SendAsDenied; not allowed to send as", Cause.SENDER),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", Cause.SENDER),
    ("550 5.7.26 Unauthenticated email is not accepted", Cause.SENDER),
    ("554 Message rejected: Email address is not verified.", Cause.SENDER),
    ("403 You are not authorized to send from that email address", Cause.SENDER),
    ("421 4.3.0 Temporary system problem", Cause.OTHER),
    ("554 5.7.1 Looks like spam", Cause.OTHER),
    ("451 4.3.0 Not now", Cause.OTHER),
    ("550 5.1.1 No such user", Cause.RECIPIENT),
]


@pytest.mark.parametrize(("text", "cause", "final"), AT_RCPT)
def test_a_reply_to_rcpt_has_a_cause_and_may_be_final(text: str, cause: Cause, final: bool) -> None:
    code, _, words = text.partition(" ")
    reply = Reply(int(code), words, to_recipient=True)
    assert (reply.cause, reply.is_final) == (cause, final)


@pytest.mark.parametrize(("text", "cause"), TO_OTHER_COMMANDS)
def test_other_replies_have_a_cause_and_are_never_final(text: str, cause: Cause) -> None:
    code, _, words = text.partition(" ")
    reply = Reply(int(code), words)
    assert (reply.cause, reply.is_final) == (cause, False)


def test_equal_refusals_have_the_same_kind_despite_varying_ids() -> None:
    first, second, other = (
        Reply(550, f"5.7.{detail} Not accepted {number} gsmtp")
        for detail, number in ((26, "x1-20"), (26, "y2-30"), (1, "x1-20"))
    )
    assert first.kind == second.kind != other.kind
