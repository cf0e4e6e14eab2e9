"""What becomes of many letters when the server gives all of them the same answer."""

from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from prefect_tracktor import NotificationLedger
from prefect_tracktor.mail.ledger import NoticeKey, NoticeState
from prefect_tracktor.mail.message import compose, parse_mailbox
from prefect_tracktor.mail.outbox import Letter, Posted, post
from prefect_tracktor.mail.smtp import MailSession
from prefect_tracktor.mail.template import RenderedEmail
from tests.mail.scripted import HANG_UP, SILENCE, Answer, ScriptedServer, scripted

SENDER = parse_mailbox("Your Shop <orders@your-shop.example>", field="sender")
UNKNOWN = "550 5.1.1 User unknown"


@pytest.fixture
def ledger(tmp_path: Path) -> NotificationLedger:
    """An empty ledger."""
    return NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")


def letters(count: int, *, first: int = 0, name: str = "c") -> Iterator[Letter]:
    for number in range(first, first + count):
        key = NoticeKey("shop", 1000 + number, 7000 + number, "exception:expired")
        to = f"{name}{number}@example.com"
        message = compose(
            RenderedEmail("Hi", "Hello.", "<p>Hello.</p>"),
            sender=SENDER,
            recipient=to,
            reply_to=None,
            message_key=str(key),
        )
        yield Letter(1000 + number, SENDER.addr_spec, to, message, (key,))


def posted_to(
    server: ScriptedServer, ledger: NotificationLedger, count: int = 30, *, first: int = 0
) -> list[Posted]:
    with MailSession(server.block, timeout_seconds=0.5, patience_seconds=1) as session:
        return list(post(letters(count, first=first), session=session, ledger=ledger, run="run"))


def counts(posted: list[Posted]) -> dict[str, int]:
    return Counter(one.outcome.value for one in posted)


def states(ledger: NotificationLedger, posted: list[Posted]) -> list[NoticeState | None]:
    keys = [one.letter.keys[0] for one in posted]
    known = ledger.states(keys)
    return [known.get(key) for key in keys]


class TestOneAnswerForEverybody:
    @pytest.mark.parametrize(
        ("command", "answer", "remedy"),
        [
            (".", "554 5.2.252 SendAsDenied; not allowed to send as", "sender address"),
            (".", "554 Message rejected: Email address is not verified.", "verified"),
            (".", "550 5.7.26 Unauthenticated mail", "SPF and DKIM"),
            (".", "550 5.4.5 Daily user sending limit exceeded.", "next run goes on"),
            (".", "452 Maximum credits exceeded", "reached a limit"),
            (".", "454 Throttling failure: Maximum sending rate exceeded.", "messages_per_second"),
            (".", "554 5.7.1 Looks like spam", "ask the provider"),
            ("DATA", "451 4.3.0 Not now", "ask the provider"),
            ("MAIL", "452 4.3.1 Insufficient storage", "ask the provider"),
            ("RCPT", "554 5.7.1 Relay access denied", "It wants a login"),
            ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", "sender address"),
            ("MAIL", "421 4.7.0 Try again later, closing connection.", "ask the provider"),
            ("MAIL", HANG_UP, "connection broke"),
            ("RCPT", SILENCE, "connection broke"),
        ],
    )
    def test_stops_after_a_few_with_the_servers_words_and_what_helps(
        self, ledger: NotificationLedger, command: str, answer: str, remedy: str
    ) -> None:
        with scripted(**{command: [lambda: answer]}) as server:
            posted = posted_to(server, ledger)
            assert counts(posted) == {"deferred": 30}
            assert server.heard["CONNECT"] <= 6
            assert len(server.contents) <= 3 or "rate" in answer
        assert states(ledger, posted) == [None] * 30
        assert posted[-1].reason.startswith("not tried")
        advice = posted[2].advice
        assert remedy in advice
        assert "3 messages in a row" in advice
        assert answer in (HANG_UP, SILENCE) or answer.rstrip(".") in advice
        assert "@" not in advice

    def test_that_changes_in_a_number_is_still_the_same(self, ledger: NotificationLedger) -> None:
        numbers = iter(range(100))
        answer: Answer = lambda: f"550 5.7.26 Not accepted, see {next(numbers)}-gsmtp"  # noqa: E731
        with scripted(**{".": [answer]}) as server:
            posted_to(server, ledger)
            assert len(server.contents) == 3

    def test_for_two_messages_alone_is_told_too(self, ledger: NotificationLedger) -> None:
        with scripted(**{".": [lambda: "550 5.4.5 Daily limit exceeded"]}) as server:
            posted = posted_to(server, ledger, 2)
        assert "reached a limit" in posted[-1].advice

    def test_about_its_recipient_only_stops_nothing(self, ledger: NotificationLedger) -> None:
        with scripted(RCPT=["450 4.2.0 Greylisted"] * 20) as server:
            assert counts(posted_to(server, ledger)) == {"deferred": 20, "sent": 10}

    def test_now_and_then_stops_nothing(self, ledger: NotificationLedger) -> None:
        answers = cycle(["554 5.7.1 Spam", "554 5.7.1 Spam", "250 fine"])
        with scripted(**{".": [lambda: next(answers)]}) as server:
            assert counts(posted_to(server, ledger)) == {"deferred": 20, "sent": 10}


class TestAnAddressThatDoesNotExist:
    def test_is_given_up_where_the_server_takes_others(self, ledger: NotificationLedger) -> None:
        answers = [UNKNOWN, "250 fine", UNKNOWN, UNKNOWN, "250 fine", UNKNOWN]
        with scripted(RCPT=answers) as server:
            posted = posted_to(server, ledger, 6)
        assert [one.outcome.value for one in posted] == [
            *("refused", "sent", "refused", "refused", "sent", "refused")
        ]
        assert states(ledger, posted) == [one.outcome.value for one in posted]

    @pytest.mark.parametrize("count", [1, 2, 10, 30])
    def test_like_nobodys_else_is_not_believed(
        self, ledger: NotificationLedger, count: int
    ) -> None:
        with scripted(RCPT=[lambda: UNKNOWN]) as server:
            posted = posted_to(server, ledger, count)
            assert server.heard["RCPT"] <= 10
        assert counts(posted) == {"deferred": count}
        assert states(ledger, posted) == [None] * count
        assert "not taken as final" in posted[0].reason
        if count >= 10:
            assert "only receives" in posted[9].advice

    def test_is_not_believed_of_a_server_that_lost_its_directory(
        self, ledger: NotificationLedger
    ) -> None:
        with scripted(RCPT=["250 fine"] * 5 + [UNKNOWN] * 8 + ["250 fine"] * 5) as server:
            posted = posted_to(server, ledger, 18)
        assert counts(posted) == {"sent": 10, "deferred": 8}

    def test_alone_in_its_run_is_given_up_once_at_most(self, ledger: NotificationLedger) -> None:
        with scripted(RCPT=["250 fine", UNKNOWN, UNKNOWN, "250 fine", UNKNOWN]) as server:
            posted = [posted_to(server, ledger, 1, first=number)[0] for number in range(5)]
        assert [one.outcome.value for one in posted] == [
            *("sent", "refused", "deferred", "sent", "refused")
        ]

    def test_is_not_given_up_if_another_run_wrote_to_it(self, ledger: NotificationLedger) -> None:
        """While it was not certain, its claim was open to others."""
        keys = [letter.keys for letter in letters(1)]

        def others_turn() -> str:
            ledger.settle(keys[0], NoticeState.SENT, run="other")
            return "250 fine"

        with scripted(RCPT=[UNKNOWN, others_turn]) as server:
            posted = posted_to(server, ledger, 2)
        assert [one.outcome.value for one in posted] == ["already_told", "sent"]


class TestAConnectionThatIsCutAfterTheMessage:
    def test_each_time_stops_after_a_few(self, ledger: NotificationLedger) -> None:
        with scripted(**{".": [lambda: HANG_UP]}) as server:
            posted = posted_to(server, ledger, 40)
        assert counts(posted) == {"uncertain": 3, "deferred": 37}
        assert "mail filter" in posted[2].advice

    def test_every_second_time_stops_after_a_few_more(self, ledger: NotificationLedger) -> None:
        answers = cycle([HANG_UP, "250 fine"])
        with scripted(**{".": [lambda: next(answers)]}) as server:
            posted = posted_to(server, ledger, 40)
        assert counts(posted) == {"uncertain": 5, "sent": 4, "deferred": 31}


def test_an_address_beyond_ascii_waits_for_a_server_that_takes_it(
    ledger: NotificationLedger,
) -> None:
    with scripted() as server, MailSession(server.block) as session:
        [first] = post(letters(1, name="zoë"), session=session, ledger=ledger, run="run")
    able = "250-scripted.example\r\n250 SMTPUTF8"
    with scripted(EHLO=[able]) as server, MailSession(server.block) as session:
        [second] = post(letters(1, name="zoë"), session=session, ledger=ledger, run="run")
    assert (first.outcome.value, second.outcome.value) == ("deferred", "sent")
    assert "SMTPUTF8" in first.reason
