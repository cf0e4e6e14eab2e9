"""Many emails to a server with errors: when sending stops, which refusals are recorded."""

from collections import Counter
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import NotificationLedger
from prefect_tracktor.messages.smtp import MailSession
from prefect_tracktor.storage.ledger import NoticeState
from tests.integration.messages.scripted import HANG_UP, SILENCE, Reply, ScriptedServer, scripted
from tests.support.sending import Sent, key_of, send

UNKNOWN = "550 5.1.1 User unknown"


@pytest.fixture
def ledger(tmp_path: Path) -> NotificationLedger:
    """Return an empty ledger."""
    return NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts of sessions."""
    session = partial(MailSession, timeout_seconds=0.5, backoff_seconds=1)
    monkeypatch.setattr("prefect_tracktor.messages.channel.MailSession", session)


def send_through(
    server: ScriptedServer, ledger: NotificationLedger, count: int = 30, **options: Any
) -> Sent:
    return send(server.mailer(), ledger, count, **options)


def counts(sent: Sent) -> dict[str, int]:
    return Counter(sent.outcomes)


class TestSameReplyToEveryMessage:
    @pytest.mark.parametrize(
        ("command", "reply", "remedy"),
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
            ("RCPT", "554 5.7.1 Relay access denied", "It requires a login"),
            ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", "sender address"),
            ("MAIL", "421 4.7.0 Try again later, closing connection.", "ask the provider"),
            ("MAIL", HANG_UP, "connection broke"),
            ("RCPT", SILENCE, "connection broke"),
        ],
    )
    def test_sending_stops_after_a_few_equal_errors(
        self, ledger: NotificationLedger, command: str, reply: str, remedy: str
    ) -> None:
        with scripted(**{command: [lambda: reply]}) as server:
            result = send_through(server, ledger, 12)
            assert counts(result) == {"deferred": 12}
            assert server.commands["CONNECT"] <= 6
            assert len(server.contents) <= 3 or "rate" in reply
        assert result.states(ledger) == [None] * 12
        assert result.notices[-1].reason.startswith("not tried")
        advice = result.advice
        assert remedy in advice
        assert "3 messages in a row" in advice
        assert reply in (HANG_UP, SILENCE) or reply.rstrip(".") in advice
        assert "@" not in advice

    def test_errors_that_differ_in_a_number_count_as_equal(
        self, ledger: NotificationLedger
    ) -> None:
        numbers = iter(range(100))
        reply: Reply = lambda: f"550 5.7.26 Not accepted, see {next(numbers)}-gsmtp"  # noqa: E731
        with scripted(**{".": [reply]}) as server:
            send_through(server, ledger)
            assert len(server.contents) == 3

    def test_sending_stops_after_ten_different_errors(self, ledger: NotificationLedger) -> None:
        replies = cycle(["554 5.7.1 Spam", "451 4.3.0 Not now", "550 5.4.5 Daily limit exceeded"])
        with scripted(**{".": [lambda: next(replies)]}) as server:
            result = send_through(server, ledger)
            assert counts(result) == {"deferred": 30}
            assert len(server.contents) == 10
        assert "none of 10 messages in a row" in result.advice

    @pytest.mark.parametrize("reply", ["550 5.1.1 User unknown", "552 5.2.2 Mailbox full"])
    def test_sending_stops_if_all_recipients_are_refused_after_the_content(
        self, ledger: NotificationLedger, reply: str
    ) -> None:
        with scripted(**{".": [lambda: reply]}) as server:
            result = send_through(server, ledger)
            assert counts(result) == {"deferred": 30}
            assert len(server.contents) == 10
        assert "only receives" in result.advice

    def test_an_error_for_only_two_messages_is_reported(self, ledger: NotificationLedger) -> None:
        with scripted(**{".": [lambda: "550 5.4.5 Daily limit exceeded"]}) as server:
            result = send_through(server, ledger, 2)
        assert "reached a limit" in result.advice

    def test_temporary_refusals_of_recipients_do_not_stop_sending(
        self, ledger: NotificationLedger
    ) -> None:
        with scripted(RCPT=["450 4.2.0 Greylisted"] * 20) as server:
            assert counts(send_through(server, ledger)) == {"deferred": 20, "sent": 10}

    def test_occasional_errors_do_not_stop_sending(self, ledger: NotificationLedger) -> None:
        replies = cycle(["554 5.7.1 Spam", "554 5.7.1 Spam", "250 fine"])
        with scripted(**{".": [lambda: next(replies)]}) as server:
            assert counts(send_through(server, ledger)) == {"deferred": 20, "sent": 10}


class TestUnknownRecipient:
    def test_an_unknown_recipient_is_refused_if_others_are_accepted(
        self, ledger: NotificationLedger
    ) -> None:
        replies = [UNKNOWN, "250 fine", UNKNOWN, UNKNOWN, "250 fine", UNKNOWN]
        with scripted(RCPT=replies) as server:
            result = send_through(server, ledger, 6)
        assert result.outcomes == [*("refused", "sent", "refused", "refused", "sent", "refused")]
        assert result.states(ledger) == result.outcomes

    @pytest.mark.parametrize("count", [1, 2, 10, 30])
    def test_refusals_of_all_recipients_are_deferred(
        self, ledger: NotificationLedger, count: int
    ) -> None:
        with scripted(RCPT=[lambda: UNKNOWN]) as server:
            result = send_through(server, ledger, count)
            assert server.commands["RCPT"] <= 10
        assert counts(result) == {"deferred": count}
        assert result.states(ledger) == [None] * count
        assert "the address is tried again" in result.notices[0].reason
        if count >= 10:
            assert "only receives" in result.advice

    def test_many_refusals_in_a_row_are_deferred(self, ledger: NotificationLedger) -> None:
        with scripted(RCPT=["250 fine"] * 5 + [UNKNOWN] * 8 + ["250 fine"] * 5) as server:
            result = send_through(server, ledger, 18)
        assert counts(result) == {"sent": 10, "deferred": 8}

    def test_a_lone_refusal_is_recorded_if_earlier_runs_sent_messages(
        self, ledger: NotificationLedger
    ) -> None:
        replies = [UNKNOWN, "250 fine", *[UNKNOWN] * 5, "250 fine", UNKNOWN]
        with scripted(RCPT=replies) as server:
            result = [send_through(server, ledger, 1, first=n).outcomes[0] for n in range(1, 10)]
        # a server that accepts no message any more refuses only a few
        few = ["refused"] * 4
        assert result == ["deferred", "sent", *few, "deferred", "sent", "refused"]

    def test_refusals_are_recorded_unless_too_many_are_in_a_row(
        self, ledger: NotificationLedger
    ) -> None:
        with scripted(RCPT=["250 fine", *[UNKNOWN] * 9]) as server:
            result = [
                counts(send_through(server, ledger, count, first=10 * run))
                for run, count in enumerate((1, 2, 3, 2, 1), start=1)
            ]
        assert result == [
            {"sent": 1},
            {"refused": 2},
            {"deferred": 3},
            {"refused": 2},
            {"deferred": 1},
        ]

    def test_no_refusal_is_recorded_if_another_run_sent_the_message(
        self, ledger: NotificationLedger
    ) -> None:
        """A refusal that is not certain yet releases its claim."""

        def other_run_sends() -> str:
            ledger.complete([key_of(1)], NoticeState.SENT, run="other")
            return "250 fine"

        with scripted(RCPT=[UNKNOWN, other_run_sends]) as server:
            result = send_through(server, ledger, 2)
        assert result.outcomes == ["already_told", "sent"]


class TestConnectionLostAfterTheContent:
    def test_sending_stops_after_three_uncertain_messages_in_a_row(
        self, ledger: NotificationLedger
    ) -> None:
        with scripted(**{".": [lambda: HANG_UP]}) as server:
            result = send_through(server, ledger, 40)
        assert counts(result) == {"uncertain": 3, "deferred": 37}
        assert "mail filter" in result.advice

    def test_sending_stops_after_five_uncertain_messages_in_all(
        self, ledger: NotificationLedger
    ) -> None:
        replies = cycle([HANG_UP, "250 fine"])
        with scripted(**{".": [lambda: next(replies)]}) as server:
            result = send_through(server, ledger, 40)
        assert counts(result) == {"uncertain": 5, "sent": 4, "deferred": 31}


def test_a_non_ascii_address_is_deferred_until_the_server_supports_it(
    ledger: NotificationLedger,
) -> None:
    with scripted() as server:
        first = send_through(server, ledger, 1, name="zoë")
    able = "250-scripted.example\r\n250 SMTPUTF8"
    with scripted(EHLO=[able]) as server:
        second = send_through(server, ledger, 1, name="zoë")
    assert (first.outcomes, second.outcomes) == (["deferred"], ["sent"])
    assert "SMTPUTF8" in first.notices[0].reason
