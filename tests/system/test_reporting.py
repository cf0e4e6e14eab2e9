"""What a run shows of itself, read back from a real Prefect API."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from prefect_tracktor import reporting
from prefect_tracktor.reporting import (
    Chart,
    Progress,
    markdown_table,
    plain,
    publish_charts,
    publish_summary,
    publish_table,
    shown,
)

AT_ONCE = timedelta(0)
NEVER = timedelta(days=1)


def artifact_of(key: str) -> Artifact:
    """The one artifact with this key."""
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return artifact


def rows_of(key: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(str(artifact_of(key).data))
    return rows


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The percentages that were sent to Prefect, which is played."""
    sent: list[float] = []

    def update(*, artifact_id: UUID, progress: float) -> UUID:
        sent.append(progress)
        return artifact_id

    monkeypatch.setattr(reporting, "create_progress_artifact", lambda **_: UUID(int=1))
    monkeypatch.setattr(reporting, "update_progress_artifact", update)
    return sent


@pytest.fixture
def prefect_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Prefect's API cannot be reached; what was tried is listed."""
    tried: list[str] = []
    for name in ("table", "markdown", "progress"):

        def fail(name: str = name, **_: object) -> UUID:
            tried.append(name)
            raise httpx.ConnectError("no route for ada@example.com")

        monkeypatch.setattr(reporting, f"create_{name}_artifact", fail)
    return iter([tried])


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], "none"), ([1], "1"), ([1, 2, 3], "1, 2, 3"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")],
)
def test_ids_are_named_up_to_a_limit(ids: list[int], words: str) -> None:
    assert shown(ids, limit=3) == words


def test_a_cell_cannot_break_out_of_its_table() -> None:
    hostile = "x | y\n| `z` | \\| <script>alert(1)</script> | [Pay](https://evil.example)"
    header, rule, row = markdown_table(["Order", "Parcels"], [[hostile, 2]]).splitlines()
    assert header == "| Order | Parcels |"
    assert rule == "| --- | ---: |"
    assert row.count("|") == 3
    assert not set("<>[]()`\\") & set(row)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        markdown_table(["a", "b"], [["1", "2"], ["3"]])


@pytest.mark.parametrize(
    "link", ["https://evil.example", "HTTP://evil.example", "WWW.evil.example", "ada@evil.example"]
)
def test_a_bare_address_becomes_no_link(link: str) -> None:
    written = plain(f"see {link}")
    assert link not in written
    assert written.replace("\u2060", "") == f"see {link}"


@given(st.text())
def test_any_text_becomes_one_line_without_markup(text: str) -> None:
    written = plain(text)
    assert written.isprintable() or "\u2060" in written
    assert len(written.splitlines()) <= 1
    assert not set("<>|`*_[]()!~$\\") & set(written)


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
def test_a_table_says_how_many_rows_were_left_out() -> None:
    @flow
    def report() -> None:
        rows = [{"order": number} for number in range(2500)]
        publish_table("many-rows", rows, description="All.", limit=1000)

    report()
    assert len(rows_of("many-rows")) == 1000
    description = artifact_of("many-rows").description
    assert description == "All.\n\n1,000 of 2,500 rows; 1,500 are left out."


@pytest.mark.usefixtures("prefect_api")
def test_a_table_stays_below_the_size_that_prefect_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @flow
    def report() -> None:
        rows = [{f"column {n}": '"é' * 400 for n in range(20)} for _ in range(1000)]
        publish_table("wide-rows", rows, description="Wide.")

    with caplog.at_level(logging.WARNING):
        report()
    assert 0 < len(rows_of("wide-rows")) < 1000
    assert "are left out" in str(artifact_of("wide-rows").description)
    assert "event of size" not in caplog.text


@pytest.mark.usefixtures("prefect_api")
def test_a_summary_holds_counts_and_notes_as_they_are() -> None:
    @flow
    def report() -> None:
        publish_summary(
            "summary",
            title="Late *parcels*",
            counts={"written to": 1200, "refused": 0, "un_certain": 0},
            notes=["<b>5</b> left"],
        )

    report()
    assert artifact_of("summary").data == (
        "# Late &#42;parcels&#42;\n\n"
        "- &#60;b&#62;5&#60;/b&#62; left\n\n"
        "|  | Count |\n| --- | ---: |\n| written to | 1,200 |\n\n"
        "None: refused, un&#95;certain."
    )
    assert artifact_of("summary").description == "The run in numbers."


def test_a_column_of_numbers_stands_on_the_right_with_commas() -> None:
    _, rule, *rows = markdown_table(
        ["Of", "Parcels", "Id"], [["a", 1200, "1200"], ["b", 7, "7"]]
    ).splitlines()
    assert rule == "| --- | ---: | --- |"
    assert rows == ["| a | 1,200 | 1200 |", "| b | 7 | 7 |"]


def test_a_table_may_have_no_rows() -> None:
    assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def bars_of(*counts: int) -> list[str]:
    """The last cell of each row: bar and share."""
    chart = Chart("By n", "N", "Parcels", {str(n): count for n, count in enumerate(counts)})
    rows = chart.markdown().splitlines()[4:]
    return [row.split("|")[3].strip() for row in rows]


def test_a_bar_is_as_long_as_its_count_beside_the_largest() -> None:
    assert bars_of(28, 14, 7, 7) == ["█" * 14 + " 50%", "█" * 7 + " 25%", "███▌ 12%", "███▌ 12%"]


def test_what_is_there_at_all_is_seen_and_what_is_not_has_no_bar() -> None:
    assert bars_of(100_000, 1, 0) == ["█" * 14 + " 100%", "▏ 0%", "0%"]


def test_a_chart_of_nothing_has_no_shares() -> None:
    assert bars_of(0, 0) == ["", ""]
    assert bars_of() == []


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=12))
def test_a_larger_count_never_has_a_shorter_bar(counts: list[int]) -> None:
    lengths = [
        8 * bar.count("█") + sum("▏▎▍▌▋▊▉".index(c) + 1 for c in bar if c in "▏▎▍▌▋▊▉")
        for bar in bars_of(*sorted(counts))
    ]
    assert lengths == sorted(lengths)
    assert max(lengths) == (14 * 8 if any(counts) else 0)


def test_a_chart_shows_names_as_they_are() -> None:
    hostile = "x | <script> [Pay](https://evil.example)"
    row = Chart("By | n", "N | m", "Parcels", {hostile: 1}).markdown().splitlines()[-1]
    assert row.count("|") == 4
    assert not set("<>[]()`\\") & set(row)


@pytest.mark.usefixtures("prefect_api")
def test_charts_are_one_artifact_of_their_flow_run() -> None:
    @flow
    def report() -> None:
        charts = [Chart("By carrier", "Carrier", "Parcels", {"UPS": 3, "DPD": 1})]
        publish_charts(
            "Late charts", charts, title="Late_parcels", lead="<b>4</b> are late.", description="d"
        )

    report()
    artifact = artifact_of("late-charts")
    assert artifact.flow_run_id is not None
    assert artifact.data == (
        "# Late&#95;parcels\n\n"
        "&#60;b&#62;4&#60;/b&#62; are late.\n\n"
        "## By carrier\n\n"
        "| Carrier | Parcels | Share |\n| --- | ---: | --- |\n"
        "| UPS | 3 | ██████████████ 75% |\n| DPD | 1 | ████▋ 25% |"
    )


@pytest.mark.usefixtures("prefect_api")
def test_an_asynchronous_flow_reports_from_a_thread() -> None:
    @flow
    async def report() -> None:
        await asyncio.to_thread(publish_summary, "from-a-thread", title="Done", counts={})

    asyncio.run(report())
    assert artifact_of("from-a-thread").data == "# Done"


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


def test_progress_of_work_that_failed_stays_where_it_was(updates: list[float]) -> None:
    def fail() -> None:
        with Progress("k", description="d", total=4, at_most_every=NEVER) as progress:
            progress.advance(2)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert updates == [50, 50]


def test_progress_leaves_prefect_alone_between_steps_of_five_percent(updates: list[float]) -> None:
    with Progress("k", description="d", total=1000, at_most_every=NEVER) as progress:
        for _ in range(1000):
            progress.advance()
    assert updates == [*range(5, 101, 5), 100]


def test_progress_is_shown_when_time_has_passed(updates: list[float]) -> None:
    with Progress("k", description="d", total=100, at_most_every=AT_ONCE) as progress:
        progress.advance()
        progress.advance()
    assert updates == [1, 2, 2]


def test_progress_is_told_in_whole_percents_and_100_only_when_all_is_done(
    updates: list[float],
) -> None:
    with Progress("k", description="d", total=300, at_most_every=AT_ONCE) as progress:
        progress.advance(100)
        progress.advance(199)
    assert updates == [33, 99, 99]


def test_progress_never_exceeds_100(updates: list[float]) -> None:
    with Progress("k", description="d", total=1, at_most_every=NEVER) as progress:
        progress.advance(7)
    assert updates == [100, 100]


def test_progress_without_a_total_is_told_in_the_log(
    updates: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "prefect"),
        Progress("k", description="Orders read", total=None, at_most_every=NEVER) as progress,
    ):
        progress.advance(12_000)
        progress.advance(500)
    assert "Orders read: 12,500" in caplog.text
    assert updates == []


def test_the_same_number_is_not_logged_twice(
    updates: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "prefect"),
        Progress("k", description="Orders read", total=None, at_most_every=AT_ONCE) as progress,
    ):
        progress.advance(400)
    assert caplog.text.count("Orders read: 400") == 1


def test_trouble_with_prefect_never_ends_the_work(
    prefect_away: Iterator[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    publish_table("t", [{"order": 1}], description="d")
    publish_summary("s", title="t", counts={"orders": 1})
    publish_charts("c", [], title="t", lead="l", description="d")
    with Progress("p", description="d", total=2, at_most_every=AT_ONCE) as progress:
        progress.advance()
    assert next(prefect_away) == ["table", "markdown", "markdown", "progress"]
    assert caplog.text.count("could not be published (ConnectError)") == 4
    assert "ada@example.com" not in caplog.text
