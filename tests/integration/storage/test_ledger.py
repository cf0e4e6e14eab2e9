"""Notification ledger in SQLite and PostgreSQL: claims, completion, uncertain notices."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, NotificationLedger
from prefect_tracktor.errors import LedgerError
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState

NOW = timedelta(0)


def keys(count: int) -> list[NoticeKey]:
    return [NoticeKey("shop", number, 7, "exception:expired") for number in range(1, count + 1)]


@pytest.fixture
def ledger(database_url: str) -> NotificationLedger:
    return NotificationLedger(url=database_url)


def test_a_notice_can_be_claimed_once(ledger: NotificationLedger) -> None:
    assert ledger.claim(keys(2), run="first") == set(keys(2))
    assert ledger.claim(keys(3), run="second") == set(keys(3)) - set(keys(2))


def test_keys_that_differ_in_one_field_are_claimed_separately(ledger: NotificationLedger) -> None:
    different = [
        NoticeKey("shop", 1, 7, "a"),
        NoticeKey("other shop", 1, 7, "a"),
        NoticeKey("shop", 2, 7, "a"),
        NoticeKey("shop", 1, 8, "a"),
        NoticeKey("shop", 1, 7, "b"),
    ]
    assert ledger.claim(different, run="run") == set(different)


@pytest.mark.parametrize("state", [NoticeState.SENT, NoticeState.REFUSED])
def test_a_completed_notice_cannot_be_claimed_again(
    ledger: NotificationLedger, state: NoticeState
) -> None:
    ledger.claim(keys(1), run="first")
    ledger.complete(keys(1), state, run="first")
    assert ledger.claim(keys(1), run="second") == set()
    assert ledger.states(keys(1)) == {keys(1)[0]: state}
    assert ledger.uncertain(older_than=NOW) == []


def test_refusals_are_counted_since_the_last_sent_notice_of_the_rules(
    ledger: NotificationLedger,
) -> None:
    def complete(order_id: int, words: str, state: NoticeState, *, parcels: int = 1) -> None:
        batch = [NoticeKey("shop", order_id, parcel, words) for parcel in range(parcels)]
        ledger.claim(batch, run="run")
        ledger.complete(batch, state, run="run")

    complete(1, "mail:stalled", NoticeState.SENT)
    complete(2, "sms-2:stalled", NoticeState.SENT)
    complete(3, "sms:stalled", NoticeState.REFUSED)
    assert ledger.refused_in_a_row("shop", ["sms"]) is None
    assert ledger.refused_in_a_row("shop", ["mail"]) == 0
    complete(4, "sms:exception:expired", NoticeState.SENT)
    complete(5, "sms:stalled", NoticeState.REFUSED, parcels=3)
    complete(6, "sms:stalled#2", NoticeState.REFUSED)
    complete(7, "late", NoticeState.REFUSED)
    complete(7, "late#2", NoticeState.SENT)
    complete(8, "late#3", NoticeState.REFUSED)
    assert ledger.refused_in_a_row("shop", ["sms"]) == 2
    assert ledger.refused_in_a_row("shop", ["late"]) == 1
    assert ledger.refused_in_a_row("shop", ["late", "mail"]) == 1
    assert ledger.refused_in_a_row("other", ["sms"]) is None


def test_a_released_notice_can_be_claimed_again(ledger: NotificationLedger) -> None:
    ledger.claim(keys(1), run="first")
    ledger.release(keys(1), run="first")
    assert ledger.claim(keys(1), run="second") == set(keys(1))


def test_a_run_releases_only_its_own_open_claims(ledger: NotificationLedger) -> None:
    ledger.claim(keys(2), run="first")
    ledger.complete(keys(2)[:1], NoticeState.SENT, run="first")
    ledger.release(keys(2), run="second")
    ledger.release(keys(2)[:1], run="first")
    assert ledger.claim(keys(2), run="second") == set()


def test_an_unconfirmed_notice_is_claimed_again_only_for_a_repetition(
    ledger: NotificationLedger,
) -> None:
    keys = {NoticeKey("shop", 1, 7, "a"), NoticeKey("shop", 1, 8, "a")}
    ledger.claim(keys, run="first")
    ledger.release(keys, run="first", unconfirmed=True)
    assert set(ledger.states(keys).values()) == {NoticeState.UNCONFIRMED}
    assert len({notice.claimed_at for notice in ledger.told([1])}) == 1
    assert ledger.claim(keys, run="second") == set()
    assert ledger.claim(keys, run="second", unconfirmed=True) == keys
    assert ledger.claim(keys, run="third", unconfirmed=True) == set()
    assert {notice.run for notice in ledger.told([1])} == {"second"}
    ledger.complete(keys, NoticeState.SENT, run="second")
    assert ledger.claim(keys, run="third", unconfirmed=True) == set()


def test_an_uncertain_claim_is_listed_with_run_and_time(ledger: NotificationLedger) -> None:
    before = datetime.now(UTC)
    ledger.claim(keys(1), run="killed")
    [notice] = ledger.uncertain(older_than=NOW)
    assert (notice.key, notice.state, notice.run) == (keys(1)[0], NoticeState.CLAIMED, "killed")
    assert before <= notice.claimed_at <= datetime.now(UTC)
    assert notice.completed_at is None


def test_a_recent_claim_is_not_uncertain(
    ledger: NotificationLedger,
) -> None:
    ledger.claim(keys(1), run="working")
    assert ledger.uncertain() == []
    assert ledger.clear_uncertain(keys(1)) == 0
    assert ledger.confirm_uncertain(keys(1)) == 0
    assert ledger.states(keys(1)) == {keys(1)[0]: NoticeState.CLAIMED}


def test_clearing_uncertain_claims_keeps_sent_notices(ledger: NotificationLedger) -> None:
    ledger.claim(keys(3), run="killed")
    ledger.complete(keys(1), NoticeState.SENT, run="killed")
    assert ledger.clear_uncertain(keys(3), older_than=NOW) == 2
    assert ledger.claim(keys(3), run="next") == set(keys(3)) - set(keys(1))


def test_a_confirmed_message_counts_as_sent_when_it_was_claimed(
    ledger: NotificationLedger,
) -> None:
    ledger.claim(keys(1), run="killed")
    assert ledger.confirm_uncertain(keys(1), older_than=NOW) == 1
    [notice] = ledger.told([1])
    assert notice.state is NoticeState.SENT
    assert notice.completed_at == notice.claimed_at


def test_a_sent_message_is_recorded_although_its_claim_was_cleared(
    ledger: NotificationLedger,
) -> None:
    ledger.claim(keys(1), run="slow")
    ledger.clear_uncertain(keys(1), older_than=NOW)
    ledger.complete(keys(1), NoticeState.SENT, run="slow")
    assert ledger.claim(keys(1), run="next") == set()


def test_a_key_given_twice_is_completed_once(ledger: NotificationLedger) -> None:
    ledger.complete(keys(1) * 2, NoticeState.SENT, run="run")
    assert ledger.states(keys(1)) == {keys(1)[0]: NoticeState.SENT}


def test_thousands_of_notices_are_claimed_and_cleared_together(ledger: NotificationLedger) -> None:
    assert ledger.claim(keys(1100), run="run") == set(keys(1100))
    assert len(ledger.states(iter(keys(3000)))) == 1100
    assert ledger.clear_uncertain(keys(1100), older_than=NOW) == 1100


def test_ledger_methods_accept_no_keys(ledger: NotificationLedger) -> None:
    assert ledger.claim([], run="run") == set()
    assert ledger.states([]) == {}
    ledger.complete([], NoticeState.SENT, run="run")


def test_concurrent_threads_never_claim_the_same_notice(ledger: NotificationLedger) -> None:
    def claim_all(run: str) -> list[NoticeKey]:
        return [key for key in keys(60) for key in ledger.claim([key], run=run)]

    with ThreadPoolExecutor(4) as threads:
        claimed = [key for share in threads.map(claim_all, "abcd") for key in share]
    assert sorted(claimed) == keys(60)


# one process for all tests, as the import takes most of the time; it forks for each claimer
CLAIMERS = textwrap.dedent("""
    import os, sys
    from prefect_tracktor.storage.ledger import NoticeKey, NotificationLedger

    def claim(url, count, run, start):
        ledger = NotificationLedger(url=url)
        os.read(start, 1)
        for number in range(1, count + 1):
            for key in ledger.claim([NoticeKey("shop", number, 7, "a")], run=run):
                print(os.getpid(), key.order_id, flush=True)

    for line in sys.stdin:
        url, count, *runs = line.split()
        start, starter = os.pipe()
        for run in runs:
            if not os.fork():
                os.close(starter)
                claim(url, int(count), run, start)
                print(os.getpid(), 0, flush=True)
                os._exit(0)
        os.close(starter)
        os.close(start)
        for run in runs:
            os.wait()
        print("done", flush=True)
""")


@pytest.fixture(scope="module")
def claimers() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def claims(
    claimers: subprocess.Popen[str], url: str, count: int, *runs: str
) -> Iterator[tuple[int, int]]:
    """Claim `count` keys in a process for each run, which start together.

    Yields:
        The process and the number of a claimed notice, or 0 at its end.
    """
    assert claimers.stdin is not None
    assert claimers.stdout is not None
    print(url, count, *runs, file=claimers.stdin, flush=True)
    while (line := claimers.stdout.readline()) != "done\n":
        process, number = line.split()
        yield int(process), int(number)


def test_concurrent_processes_never_claim_the_same_notice(
    database_url: str, claimers: subprocess.Popen[str]
) -> None:
    claimed = list(claims(claimers, database_url, 150, "a", "b"))
    assert sorted(number for _, number in claimed) == [0, 0, *range(1, 151)]


def test_a_killed_process_does_not_lock_the_ledger(
    database_url: str, claimers: subprocess.Popen[str]
) -> None:
    claiming = claims(claimers, database_url, 100_000, "killed")
    claimed = [next(claiming) for _ in range(20)]
    os.kill(claimed[0][0], signal.SIGKILL)
    claimed += claiming
    ledger = NotificationLedger(url=database_url)
    claimed_keys = [NoticeKey("shop", number, 7, "a") for _, number in claimed]
    assert ledger.claim(claimed_keys, run="next") == set()
    assert {notice.key for notice in ledger.uncertain(older_than=NOW)} >= set(claimed_keys)


def test_the_default_ledger_is_a_file_in_the_prefect_home(prefect_home: Path) -> None:
    NotificationLedger().claim(keys(1), run="run")
    assert (prefect_home / "tracktor-notifications.sqlite3").exists()


@pytest.fixture
def prefect_home(tmp_path: Path) -> Iterator[Path]:
    from prefect.settings import PREFECT_HOME, temporary_settings

    with temporary_settings(updates={PREFECT_HOME: tmp_path}):
        yield tmp_path


def test_a_pickled_ledger_uses_the_same_database(ledger: NotificationLedger) -> None:
    ledger.claim(keys(1), run="here")
    copy = pickle.loads(pickle.dumps(ledger))  # noqa: S301  # our own block
    assert copy.claim(keys(1), run="there") == set()


@pytest.mark.parametrize(
    "url", ["mysql://me:geheim@host/db", "geheim", "sqlite://", "sqlite:///:memory:", "http://x"]
)
def test_an_error_about_an_unsupported_ledger_url_hides_the_url(url: str) -> None:
    with pytest.raises(ValidationError, match="url ") as caught:
        NotificationLedger(url=url)
    assert "geheim" not in str(caught.value)


def test_an_error_about_an_unreachable_ledger_hides_its_password() -> None:
    away = NotificationLedger(url="postgresql+asyncpg://me:geheim@127.0.0.1:1/db")
    with pytest.raises(LedgerError, match="Without it nothing is sent") as caught:
        away.claim(keys(1), run="run")
    assert "geheim" not in f"{caught.value!r} {away!r}"
    # a traceback would show the context, with the error of the database
    assert caught.value.__context__ is None


class TwoRuns(RuleBasedStateMachine):
    """Two runs and a person use a ledger in random order; its state equals that of this model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.ledger = NotificationLedger(url=f"sqlite:///{self.folder.name}/ledger.sqlite3")
        self.owner: str | None = None
        self.completed = False

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(run=st.sampled_from("ab"))
    def claim(self, run: str) -> None:
        claimed = bool(self.ledger.claim(keys(1), run=run))
        assert claimed == (self.owner is None and not self.completed)
        if claimed:
            self.owner = run

    @rule(run=st.sampled_from("ab"))
    def release(self, run: str) -> None:
        self.ledger.release(keys(1), run=run)
        if self.owner == run:
            self.owner = None

    @rule(state=st.sampled_from([NoticeState.SENT, NoticeState.REFUSED]))
    def complete(self, state: NoticeState) -> None:
        if self.owner:
            self.ledger.complete(keys(1), state, run=self.owner)
            self.owner, self.completed = None, True

    @rule()
    def clear(self) -> None:
        cleared = self.ledger.clear_uncertain(keys(1), older_than=NOW)
        assert cleared == (self.owner is not None)
        self.owner = None


TestTwoRuns = TwoRuns.TestCase
TestTwoRuns.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


AHEAD_SECONDS = 7200


def test_claims_of_a_run_at_work_cannot_be_cleared(ledger: NotificationLedger) -> None:
    with ledger.at_work("working"):
        ledger.claim(keys(1), run="working")
        assert ledger.uncertain(older_than=NOW) == []
        assert ledger.clear_uncertain(keys(1), older_than=NOW) == 0
        assert ledger.in_progress(keys(1), run="other") == set(keys(1))
        assert ledger.in_progress(keys(1), run="working") == set()
    assert ledger.clear_uncertain(keys(1), older_than=NOW) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_age_of_a_claim_uses_the_database_clock(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the clock of this machine
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=AHEAD_SECONDS)

    ledger = NotificationLedger(url=database_url)
    ledger.claim(keys(1), run="working")
    for module in ("prefect_tracktor.storage.ledger", "prefect_tracktor.storage.database"):
        monkeypatch.setattr(f"{module}.datetime", Ahead)
    assert ledger.uncertain() == []
    assert ledger.clear_uncertain(keys(1)) == 0


def test_a_claim_from_the_future_counts_as_uncertain(ledger: NotificationLedger) -> None:
    with ledger.at_work("killed"):
        ledger.claim(keys(1), run="killed")
        with ledger.transaction() as database:
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            _notices, _, runs, *_ = ledger.tables
            database.execute(_notices.update().values(claimed_at=tomorrow))
            database.execute(runs.update().values(heartbeat_at=tomorrow))
        assert [notice.key for notice in ledger.uncertain()] == keys(1)
        assert ledger.clear_uncertain(keys(1)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        ("s" * 65, 1, 7, "a"),
        ("s", 2**63, 7, "a"),
        ("s", 1, -(2**70), "a"),
        ("s", 1, 7, "a" * 201),
        ("s", 1, 7, "a\0"),
        ("s", 1, 7, "\udfff"),
    ],
)
def test_a_notice_key_rejects_values_that_no_database_holds(
    fields: tuple[str, int, int, str],
) -> None:
    with pytest.raises(InvalidInput):
        NoticeKey(*fields)
