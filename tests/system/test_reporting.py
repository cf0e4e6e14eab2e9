"""Artifacts of runs, read back from a real Prefect API."""

import asyncio
import json
import logging
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL

from prefect_tracktor.reporting.artifacts import publish_charts, publish_summary, publish_table
from prefect_tracktor.reporting.charts import Chart
from prefect_tracktor.reporting.markdown import Link, markdown_table
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import what_to_do
from tests.conftest import settings_of_all_threads
from tests.support.programs import free_port

AT_ONCE = timedelta(0)
NEVER = timedelta(days=1)
CHARTS = [Chart("By carrier", "Carrier", "Parcels", {"UPS": 3, "DPD": 1})]


def artifacts_of(key: str) -> list[Artifact]:
    """The artifacts with this key, the newest first."""
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
        )


def artifact_of(key: str) -> Artifact:
    """The only artifact with this key."""
    (artifact,) = artifacts_of(key)
    return artifact


def rows_of(key: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(str(artifact_of(key).data))
    return rows


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The updates of a progress artifact, without a Prefect API."""
    sent: list[Any] = []

    def update(artifact_id: UUID, data: object) -> UUID:
        sent.append(data)
        return artifact_id

    monkeypatch.setattr("prefect_tracktor.reporting.progress.publish", lambda *_, **__: UUID(int=1))
    monkeypatch.setattr("prefect_tracktor.reporting.progress.update", update)
    return sent


@pytest.mark.usefixtures("prefect_api")
def test_a_table_is_an_artifact_of_its_flow_run() -> None:
    @flow
    def report() -> None:
        rows: list[dict[str, str | int]] = [{"order": 1001, "why": "a\n|b\0"}, {"note": "late"}]
        publish_table("Late parcels: 2", rows, description="Too long.")

    report()
    artifact = artifact_of("late-parcels-2")
    assert artifact.flow_run_id is not None
    assert artifact.description == "Too long."
    assert rows_of("late-parcels-2") == [
        {"order": 1001, "why": "a |b", "note": ""},
        {"order": "", "why": "", "note": "late"},
    ]


@pytest.mark.usefixtures("prefect_api")
def test_a_table_states_how_many_rows_are_left_out() -> None:
    @flow
    def report() -> None:
        rows = [{"order": number} for number in range(2500)]
        publish_table("many-rows", rows, description="All.", limit=1000)

    report()
    assert len(rows_of("many-rows")) == 1000
    description = artifact_of("many-rows").description
    assert description == "All.\n\n1,000 of 2,500 rows; 1,500 are left out."


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("key", "cell"),
    [
        ("wide-rows", '"é' * 400),
        ("wide-links", Link("|\\" * 250, f"https://a.example/{'é' * 300}")),
    ],
)
def test_a_table_stays_below_prefects_size_limit(
    caplog: pytest.LogCaptureFixture, key: str, cell: str | Link
) -> None:
    @flow
    def report() -> None:
        rows = [{f"column {n}": cell for n in range(20)} for _ in range(250)]
        publish_table(key, rows, description="Wide.")

    with caplog.at_level(logging.WARNING):
        report()
    assert 500_000 < len(json.dumps(artifact_of(key).data)) < 1_500_000
    assert "are left out" in str(artifact_of(key).description)
    assert "event of size" not in caplog.text


@pytest.mark.usefixtures("prefect_api")
def test_a_table_with_links_is_a_markdown_artifact() -> None:
    @flow
    def report() -> None:
        link = Link("#1", "https://a.example/1")
        rows: list[dict[str, Any]] = [{"Order": link, "Days": 3}, {"Order": "#2", "Why": "a|b"}]
        publish_table("linked", rows, description="Late.", limit=1)
        publish_table("linked", rows, description="Late.")

    report()
    newest, cut = artifacts_of("linked")
    assert newest.type == "markdown"
    assert newest.data == (
        "| Order | Days | Why |\n| --- | --- | --- |\n"
        "| [#1](https://a.example/1) | 3 |  |\n| \\#2 |  | a\\|b |"
    )
    assert "#2" not in str(cut.data)
    assert cut.description == "Late.\n\n1 of 2 rows; 1 are left out."


@pytest.mark.usefixtures("prefect_api")
def test_a_summary_states_the_result_and_what_to_do() -> None:
    @flow
    def report() -> None:
        publish_summary(
            "summary",
            title="Late *parcels*",
            mode="dry_run",
            counts={"calls": 9, "due": 0, "no address": 1200, "refused": 0, "un_certain": 0},
            notes=["<b>5</b> left"],
            act_on=[{"Order": Link(f"#{n}", "https://a.example")} for n in range(52)],
        )

    report()
    assert str(artifact_of("summary").data).split("\n\n") == [
        "# Late \\*parcels\\*: dry run",
        "**0 orders due and 1,200 have no email address.**",
        "- \\<b\\>5\\</b\\> left",
        "## What to do",
        f"- {what_to_do({'no address': 1200})[0]}",
        "| Order |\n| --- |\n" + "\n".join(f"| [#{n}](https://a.example) |" for n in range(50)),
        "2 more are in the table of this run.",
        "## The run in numbers",
        markdown_table(
            ["", "Count"],
            [["Orders due", 0], ["No email address", 1200], ["Requests to Tracktor", 9]],
        ),
        "None: Address refused; Un\\_certain.",
    ]
    assert artifact_of("summary").description == "Dry run. The run in words and numbers."


@pytest.mark.usefixtures("prefect_api")
def test_charts_are_one_artifact_of_their_flow_run() -> None:
    @flow
    def report() -> None:
        publish_charts(
            "Late charts", CHARTS, title="Late_parcels", lead="<b>4</b> are late.", description="d"
        )

    report()
    artifact = artifact_of("late-charts")
    assert artifact.flow_run_id is not None
    assert artifact.data == "\n\n".join(
        ["# Late\\_parcels", "\\<b\\>4\\</b\\> are late.", CHARTS[0].markdown()]
    )


@pytest.mark.usefixtures("prefect_api")
def test_charts_show_the_last_runs_of_the_same_series_and_deployment() -> None:
    @flow
    def report(series: str, counts: list[int]) -> None:
        for count in counts:
            counted = ("Late parcels", count, 100)
            publish_charts(
                "trend",
                CHARTS,
                title="t",
                lead="l",
                description="d",
                counted=counted,
                series=series,
            )

    report("one shop", [0])
    assert "The last runs" not in str(artifacts_of("trend")[0].data)
    report("one shop", list(range(1, 15)))  # as many runs would do the same
    report("one shop", [15])
    newest = str(artifacts_of("trend")[0].data)
    assert re.findall(r"\| (\d+) \| 100 \|", newest) == [str(n) for n in range(15, 1, -1)]
    report("another shop", [99])
    assert "The last runs" not in str(artifacts_of("trend")[0].data)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(report), "scheduled")
        for count in (70, 80):
            parameters = {"series": "one shop", "counts": [count]}
            run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
            run_flow(report, flow_run=run, parameters=parameters)
    newest = str(artifacts_of("trend")[0].data)
    assert re.findall(r"\| (\d+) \| 100 \|", newest) == ["80", "70"]


@pytest.mark.usefixtures("prefect_api")
def test_an_async_flow_publishes_a_summary_from_a_thread() -> None:
    @flow
    async def report() -> None:
        await asyncio.to_thread(publish_summary, "from-a-thread", title="Done", counts={})

    asyncio.run(report())
    assert artifact_of("from-a-thread").data == "# Done"
    assert artifact_of("from-a-thread").flow_run_id is not None


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(("total", "key"), [(3, "three-steps"), (0, "no-steps")])
def test_progress_ends_at_100(total: int, key: str) -> None:
    @flow
    def work() -> None:
        with Progress(key, description="Orders read", total=total) as progress:
            for _ in range(total):
                progress.advance()

    work()
    assert artifact_of(key).data == 100
    assert artifact_of(key).description == "Orders read"


def test_progress_of_failed_work_keeps_its_last_value(updates: list[Any]) -> None:
    def fail() -> None:
        with Progress("k", description="d", total=4, at_most_every=NEVER) as progress:
            progress.advance(2)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert updates == [50]


def test_progress_sends_at_most_one_update_in_two_seconds(updates: list[Any]) -> None:
    with Progress("k", description="d", total=1000) as progress:
        for _ in range(1000):
            progress.advance()
    assert updates == [100]


def test_progress_is_updated_after_the_interval(updates: list[Any]) -> None:
    with Progress("k", description="d", total=100, at_most_every=AT_ONCE) as progress:
        progress.advance()
        progress.advance()
    assert updates == [1, 2, 2]


def test_progress_is_in_whole_percents_and_100_only_at_the_end(
    updates: list[Any],
) -> None:
    with Progress("k", description="d", total=300, at_most_every=AT_ONCE) as progress:
        progress.advance(100)
        progress.advance(199)
    assert updates == [33, 99, 99]


def test_progress_never_exceeds_100(updates: list[Any]) -> None:
    with Progress("k", description="d", total=1, at_most_every=NEVER) as progress:
        progress.advance(7)
    assert updates == [100]


@pytest.mark.usefixtures("prefect_api")
def test_progress_without_a_total_exists_from_the_start() -> None:
    seen = []

    @flow
    def work() -> None:
        with Progress("count", description="Orders read", total=None, at_most_every=AT_ONCE) as p:
            seen.append(artifact_of("count").data)
            p.advance(12_000)
            seen.append(artifact_of("count").data)

    work()
    assert seen == ["Orders read: **0** so far", "Orders read: **12,000** so far"]
    assert artifact_of("count").data == "Orders read: **12,000**"


def test_progress_without_a_total_shows_the_count_of_failed_work(updates: list[Any]) -> None:
    def fail() -> None:
        with Progress("k", description="Read", total=None, at_most_every=NEVER) as progress:
            progress.advance(2)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert updates == ["Read: **2** when it failed"]


@pytest.mark.usefixtures("updates")
def test_progress_without_a_total_is_logged_at_its_end_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.INFO, "prefect"),
        Progress("k", description="Orders read", total=None, at_most_every=AT_ONCE) as progress,
    ):
        progress.advance(12_000)
        progress.advance(500)
    assert [record.getMessage() for record in caplog.records] == ["Orders read: 12,500"]


def test_an_unreachable_prefect_api_does_not_fail_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with settings_of_all_threads({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        publish_table("t", [{"order": "ada@example.com"}], description="d")
        publish_summary("s", title="t", counts={"orders": 1})
        publish_charts("c", CHARTS, title="t", lead="l", description="d", counted=("Late", 4, 9))
        with Progress("p", description="d", total=2, at_most_every=AT_ONCE) as progress:
            progress.advance()
    # reading the trend's earlier runs fails too; progress stops after its first error
    assert caplog.text.count("could not be published (ConnectError)") == 5
    assert "ada@example.com" not in caplog.text
