"""`watch_shop`: one scan for several parts, each independent of the others."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import (
    IncompleteRun,
    InvalidInput,
    Mailer,
    NotificationLedger,
    NotificationRule,
    TracktorCredentials,
    TracktorError,
)
from prefect_tracktor.flows import (
    ExportFiles,
    SweptShop,
    TeamDigest,
    WatchOptions,
    announce_exceptions,
    email_expired_exceptions,
    export_tracking,
    notify_customers,
    report_exceptions,
    sweep_shops,
    watch_shop,
)
from prefect_tracktor.sandbox import Faults, MailServer, Sandbox, Shop
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

RULES = [
    NotificationRule(name="exception", when=["exception:expired"]),
    NotificationRule(name="late", when=["stalled"]),
]
EXCEPTIONS = frozenset({"exception:all"})


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A smaller shop, in which six customers are due an email."""
    with Sandbox(Shop(orders=20, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def everything(
    credentials: TracktorCredentials, tracktor: Sandbox, mailer: Mailer, tmp_path: Path
) -> dict[str, Any]:
    """The parameters of a run with all parts."""
    folder = tmp_path / "tracking"
    folder.mkdir()
    return {
        "credentials": credentials,
        "orders": list(tracktor.shop.order_ids),
        "mailer": mailer,
        "rules": RULES,
        "digest": TeamDigest(),
        "export": ExportFiles(folder=str(folder)),
        "announce": EXCEPTIONS,
    }


def test_watch_shop_does_the_work_of_four_flows_in_one_scan(
    everything: dict[str, Any],
    tracktor: Sandbox,
    mail: MailServer,
    ledger: NotificationLedger,
    tmp_path: Path,
) -> None:
    shop = {name: everything[name] for name in ("credentials", "orders")}
    emails = {"mailer": everything["mailer"], "rules": RULES}
    tracktor.reset_calls()
    notified = notify_customers(**shop, **emails, dry_run=True)
    alone = len(tracktor.calls)
    announced = announce_exceptions(**shop, ledger=ledger, dry_run=True)
    reported = report_exceptions(**shop, ledger=ledger, dry_run=True)
    export_tracking(**shop, to=ExportFiles(folder=str(tmp_path)))

    tracktor.reset_calls()
    report = watch_shop(**everything)
    assert len(tracktor.calls) <= alone * 1.1
    assert report.customers
    assert report.events
    assert report.digest
    assert report.export
    assert set(report.customers.sent) == set(notified.due)
    assert set(report.events.announced) == set(announced.due)
    assert set(report.digest.reported) == set(reported.new)
    tables = Path(everything["export"].folder)
    for name in ("orders", "parcels", "parcel_steps"):
        assert (tables / f"{name}.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()
    assert report.complete

    written = len(mail.messages)
    second = watch_shop(**everything)
    assert set(second.parts) == {"customers", "events", "digest", "export"}
    assert len(mail.messages) == written
    assert not any(part.due for part in second.parts.values())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            {
                "export": ExportFiles(folder="/nowhere/at/all"),
                "options": WatchOptions(max_events=1),
            },
            {"export": "there is no such folder", "events": "max_events is 1"},
        ),
        (
            {
                "digest": TeamDigest(notify="slack-webhook/none"),
                "options": WatchOptions(max_emails=1),
            },
            {"digest": "cannot be loaded", "customers": "max_emails is 1"},
        ),
    ],
)
def test_failed_parts_of_watch_shop_do_not_stop_the_others(
    everything: dict[str, Any], mail: MailServer, broken: dict[str, Any], words: dict[str, str]
) -> None:
    with pytest.raises(IncompleteRun) as left:
        watch_shop(**(everything | broken))
    report = left.value.report
    assert not report.complete
    assert {name for name, one in report.parts.items() if one.error} == set(words)
    for name, text in words.items():
        assert text in report.parts[name].error
        assert text in str(left.value)
    done = {
        "customers": bool(mail.messages),
        "events": bool(report.events.announced),
        "digest": bool(report.digest.reported),
        "export": any(Path(everything["export"].folder).iterdir()),
    }
    assert done == {name: name not in words for name in done}


def test_the_digest_is_reported_though_the_mail_server_is_down(
    everything: dict[str, Any], ledger: NotificationLedger
) -> None:
    away = everything["mailer"].model_copy(update={"port": 9})
    with pytest.raises(IncompleteRun, match="mail server") as left:
        watch_shop(**(everything | {"mailer": away}))
    report = left.value.report
    assert report.digest.reported
    assert report.events.announced
    assert not report.customers.sent


def test_the_error_names_the_problem_of_each_part_if_none_can_start(
    everything: dict[str, Any],
) -> None:
    broken = {
        "mailer": everything["mailer"].model_copy(update={"port": 9}),
        "digest": TeamDigest(notify="slack-webhook/none"),
        "export": ExportFiles(folder="/nowhere/at/all"),
        "announce": frozenset(),
    }
    with pytest.raises(TracktorError) as failed:
        watch_shop(**(everything | broken))
    for words in ("mail server cannot be used", "cannot be loaded", "there is no such folder"):
        assert words in str(failed.value)


def test_exported_files_stay_and_the_run_fails_if_an_order_cannot_be_read(
    everything: dict[str, Any], tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    with Sandbox(tracktor.shop, faults=Faults(seed=1, not_json=0.3)) as faulty:
        once = credentials.limits.model_copy(update={"max_attempts": 1})
        away = credentials.model_copy(update={"base_url": faulty.base_url, "limits": once})
        with pytest.raises(IncompleteRun, match="could not be read") as left:
            watch_shop(**(everything | {"credentials": away}))
        with pytest.raises(IncompleteRun, match="could not be read") as alone:
            watch_shop(away, everything["orders"], announce=EXCEPTIONS, dry_run=True)
    assert left.value.report.digest.reported
    assert not any(Path(everything["export"].folder).iterdir())
    assert set(alone.value.report.parts) == {"events"}


def test_a_dry_run_of_watch_shop_changes_nothing(
    everything: dict[str, Any], mail: MailServer, ledger: NotificationLedger
) -> None:
    report = watch_shop(**everything, dry_run=True)
    assert report.customers
    assert report.customers.due
    assert not mail.messages
    assert list(ledger.history()) == []
    assert not any(Path(everything["export"].folder).iterdir())


def test_events_and_digests_do_not_count_as_messages_to_customers(
    everything: dict[str, Any], mail: MailServer
) -> None:
    only = {"rules": None, "announce": frozenset({"exception:all", "status:delivered"})}
    watch_shop(**(everything | only), options=WatchOptions(max_events=1000))
    assert not mail.messages
    shop = {name: everything[name] for name in ("credentials", "orders", "mailer")}
    assert len(email_expired_exceptions(**shop).sent) == 6
    assert len(written_to(mail)) == 6


def test_watch_shop_refuses_missing_or_invalid_parts(everything: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {
        "rules": None,
        "digest": None,
        "export": None,
        "announce": frozenset(),
    }
    with pytest.raises(InvalidInput, match="nothing to do"):
        watch_shop(**(everything | nothing))
    with pytest.raises(InvalidInput, match="exception, late would send emails"):
        watch_shop(**(everything | {"mailer": None}))
    with pytest.raises(InvalidInput, match="conditions: 'late'"):
        watch_shop(**(everything | {"announce": frozenset({"late"})}))
    rules = [NotificationRule(name="digest", when=["stalled"])]
    with pytest.raises(InvalidInput, match="digest is reserved"):
        watch_shop(**(everything | {"rules": rules}))


def test_a_run_sends_fewer_requests_to_prefect_than_the_free_plan_allows(
    everything: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each request is in the log of httpx."""
    api = str(PREFECT_API_URL.value())
    with caplog.at_level(logging.INFO, logger="httpx"):
        watch_shop(**everything)
    requests = [line for line in caplog.messages if line.startswith("HTTP Request") and api in line]
    assert 10 < len(requests) < 625 / 4


def test_a_sweep_runs_watch_shop(
    everything: dict[str, Any], credentials: TracktorCredentials
) -> None:
    credentials.save("watched", overwrite=True)
    everything["mailer"].save("watched", overwrite=True)
    given = {name: everything[name] for name in ("orders", "digest", "announce")}
    report = sweep_shops("watch_shop", [SweptShop("watched", given)], parameters={"dry_run": True})
    assert report.done == ("watched",)
