"""The audit: each rule in a function of its own, over the records alone.

What should have been told follows from what the shop showed, worked out here a second time and
another way: nothing of this knows how the pack finds conditions or remembers notices.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.system.audit.records import WHOLE_ORDER, Digest, Due, Notice, Run, Span, Told
from tests.system.audit.world import MADE_TO_ORDER, VIP, Seen, Written

History = Sequence[Seen]
DAY = timedelta(days=1)
LADDER = ("order_ready", "in_transit", "out_for_delivery", "delivered")
NEWS = 3 * DAY
SURVEY_AFTER, SURVEY_WITHIN = DAY, 2 * DAY
STALLED_AFTER = 3 * DAY
NOT_SHIPPED_AFTER = 5 * DAY
REMINDERS, REMIND_EVERY = 2, 3 * DAY
STAGES = (("Cutting", DAY), ("Sewing", 2.5 * DAY))
# times of parcels have no fractions, and a reminder may come so much early
_A_MOMENT = timedelta(seconds=2)
_EARLY = timedelta(hours=6)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


# What is due: from what the shop showed


def due_of(order_id: int, history: History, tags: Collection[str] = ()) -> Iterator[Due]:
    """All that the order's customer, and the service, should be told."""
    parcels = {p["fulfillment_id"] for seen in history for p in seen.order["fulfillments"]}
    found = [*_of_order(history)]
    for parcel in sorted(parcels):
        found += (
            (rule, parcel, about, span) for rule, about, span in _of_parcel(history, parcel, tags)
        )
    spans: dict[Notice, list[Span]] = defaultdict(list)
    for rule, parcel, about, span in found:
        if span.begin < span.end:
            spans[Notice(rule, order_id, parcel, about)].append(span)
    for notice, some in spans.items():
        is_repeated = notice.rule == "lost"
        yield Due(
            notice,
            tuple(some),
            REMINDERS if is_repeated else 1,
            REMIND_EVERY if is_repeated else timedelta(0),
        )


def _of_order(history: History) -> Iterator[tuple[str, int, str, Span]]:
    placed_at = datetime.fromisoformat(history[0].order["order_created_at"])
    for span, about in _spans(history, _stage_before_parcels):
        yield "made", WHOLE_ORDER, about, span
    for span, about in _spans(history, _stage_of_parcels):
        stage, _, since = about.partition(" ")
        until = min(span.end, datetime.fromisoformat(since) + NEWS)
        yield "made", WHOLE_ORDER, stage, Span(span.begin, until)
    for span, _ in _spans(history, lambda order: None if order["fulfillments"] else "waiting"):
        yield "waiting", WHOLE_ORDER, "not_shipped", Span(placed_at + NOT_SHIPPED_AFTER, span.end)
    for span, about in _spans(history, _whole_order):
        yield "whole", WHOLE_ORDER, about, _cut(span, NEWS)


def _of_parcel(
    history: History, parcel: int, tags: Collection[str]
) -> Iterator[tuple[str, str, Span]]:
    for span, status in _spans(history, lambda order: _field(order, parcel, "shipment_status")):
        if status in LADDER[1:]:
            yield "status", status, _cut(span, NEWS)
        if status in LADDER[2:]:
            yield "pushed", status, _cut(span, NEWS)
        if status == "out_for_delivery" and VIP in tags:
            yield "vip", status, _cut(span, NEWS)
        if status == "delivered":
            asked_from = span.begin + SURVEY_AFTER
            yield "survey", status, Span(asked_from, min(span.end, asked_from + SURVEY_WITHIN))
        if status in LADDER[1:3]:
            yield "late", "stalled", Span(span.begin + STALLED_AFTER, span.end)
    for span, exception in _spans(history, lambda order: _exception(order, parcel)):
        yield "lost", exception, span
        yield "pushed", exception, span


def _spans(
    history: History, shown: Callable[[dict[str, Any]], str | None]
) -> Iterator[tuple[Span, str]]:
    """From when to when an order that is not cancelled shows something."""
    begin, value = history[0].at, None
    for seen in history:
        now = None if seen.is_cancelled else shown(seen.order)
        if now != value:
            if value is not None:
                yield Span(begin, seen.at), value
            begin, value = seen.at, now
    if value is not None:
        yield Span(begin, _END_OF_TIME), value


def _cut(span: Span, length: timedelta) -> Span:
    return Span(span.begin, min(span.end, span.begin + length))


def _stage_before_parcels(order: dict[str, Any]) -> str | None:
    return None if order["fulfillments"] or not order["statuses"] else str(order["statuses"][0])


def _stage_of_parcels(order: dict[str, Any]) -> str | None:
    """What was set by hand and still stands there, and since when."""
    latest = [parcel["latest_status"] for parcel in order["fulfillments"]]
    shown = (f"{s['label']} {s['datetime']}" for s in latest if s["label"] in dict(STAGES))
    return next(shown, None)


def _whole_order(order: dict[str, Any]) -> str | None:
    """Whether there is a parcel for each line of the order, and all have arrived."""
    lines = {item["id"] for parcel in order["fulfillments"] for item in parcel["line_items"]}
    statuses = {parcel["shipment_status"] for parcel in order["fulfillments"]}
    is_whole = len(lines) == order["line_item_count"] and statuses == {"delivered"}
    return "delivered" if is_whole else None


def _field(order: dict[str, Any], parcel: int, name: str) -> str | None:
    found = (p[name] for p in order["fulfillments"] if p["fulfillment_id"] == parcel)
    return next(found, None)


def _exception(order: dict[str, Any], parcel: int) -> str | None:
    arrived = _field(order, parcel, "shipment_status") == "delivered"
    return None if arrived else _field(order, parcel, "exception_status")


# The rules about notices: each names what breaks it


def told_too_often(told: Iterable[Told], due: Iterable[Due]) -> list[str]:
    """Each notice once; a reminder as often as its rule says."""
    allowed = {one.notice: one.times for one in due}
    counts = Counter(one.notice for one in told)
    return [
        f"{notice} was told {count} times"
        for notice, count in counts.items()
        if count > allowed.get(notice, 1)
    ]


def told_without_reason(told: Iterable[Told], due: Iterable[Due], runs: Sequence[Run]) -> list[str]:
    """No notice but in its time: what a run read since it began must have been a reason for it."""
    spans = {one.notice: one.spans for one in due}
    begins = _Begins(runs)
    return [
        f"{one.notice} was told at {one.at}, in the times {spans.get(one.notice, 'of none')}"
        for one in told
        if not any(
            span.begin - _A_MOMENT <= one.at and begins.before(one.at) <= span.end + _A_MOMENT
            for span in spans.get(one.notice, ())
        )
    ]


class _Begins:
    """When the run began in which something happened; of several, the first."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = sorted(runs, key=lambda run: run.begin)

    def before(self, at: datetime) -> datetime:
        return min((run.begin for run in self._runs if run.begin <= at <= run.end), default=at)


def reminded_too_soon(told: Iterable[Told], due: Iterable[Due]) -> list[str]:
    """No reminder before its time."""
    every = {one.notice: one.every for one in due}
    return [
        f"{notice} was told at {first} and again at {second}"
        for notice, some in _times_of(told).items()
        for first, second in pairwise(some)
        if second - first < every.get(notice, timedelta(0)) - _EARLY
    ]


def not_told(
    due: Iterable[Due], told: Iterable[Told], runs: Sequence[Run], unreachable: Collection[int] = ()
) -> list[str]:
    """None missing: the first run that could tell a notice has told it, or said what is left."""
    times = _times_of(told)
    later = _LaterStages(told)
    ordered = sorted(runs, key=lambda run: run.end)
    return [
        problem
        for one in due
        if one.notice.order_id not in unreachable or one.notice.rule in BY_POST
        for problem in _missed(
            one,
            times[one.notice],
            [run for run in ordered if run.answers_for(one.notice)],
            later,
        )
    ]


def _times_of(told: Iterable[Told]) -> dict[Notice, list[datetime]]:
    times: dict[Notice, list[datetime]] = defaultdict(list)
    for one in sorted(told, key=lambda one: one.at):
        times[one.notice].append(one.at)
    return times


def _missed(
    one: Due, times: Sequence[datetime], runs: Iterable[Run], later: "_LaterStages"
) -> Iterator[str]:
    for run in runs:
        whole = [s for s in one.spans if s.begin + _A_MOMENT <= run.begin and run.end <= s.end]
        known = [time for time in times if time <= run.end]
        is_next = not known or run.begin - max(known) >= one.every > timedelta(0)
        if whole and len(known) < one.times and is_next and not later.told(one.notice, run.end):
            yield f"{one.notice} was not told by {run.name} of {run.begin}, due in {whole[0]}"
            return


class _LaterStages:
    """What was told of a parcel that comes after something."""

    def __init__(self, told: Iterable[Told]) -> None:
        self._told: dict[int, list[Told]] = defaultdict(list)
        for one in told:
            if one.notice.about in LADDER:
                self._told[one.notice.parcel].append(one)

    def told(self, notice: Notice, by: datetime) -> bool:
        """Whether something later was told of the same parcel."""
        return any(
            one.at <= by and _comes_before(notice, one.notice) for one in self._told[notice.parcel]
        )


def _comes_before(notice: Notice, other: Notice) -> bool:
    """Whether what is told of a parcel is of an earlier stage than something else."""
    if notice.parcel == WHOLE_ORDER or notice.parcel != other.parcel or other.about not in LADDER:
        return False
    if notice.about in LADDER:
        return LADDER.index(notice.about) < LADDER.index(other.about)
    return other.about == "delivered"


def earlier_stage_after_later(told: Iterable[Told]) -> list[str]:
    """No notice of an earlier stage after one of a later stage, by whatever rule or channel."""
    by_parcel: dict[int, list[Told]] = defaultdict(list)
    for one in sorted(told, key=lambda one: one.at):
        by_parcel[one.notice.parcel].append(one)
    return [
        f"{after.notice} was told at {after.at}, after {before.notice}"
        for some in by_parcel.values()
        for place, before in enumerate(some)
        for after in some[place + 1 :]
        if _comes_before(after.notice, before.notice)
    ]


def told_to_cancelled(
    told: Iterable[Told], history: Mapping[int, History], runs: Sequence[Run]
) -> list[str]:
    """None to an order that was cancelled before the run began."""
    begins = _Begins(runs)
    offenders = []
    for one in told:
        cancelled_at = next(
            (seen.at for seen in history[one.notice.order_id] if seen.is_cancelled), None
        )
        if cancelled_at and cancelled_at < begins.before(one.at):
            offenders.append(f"{one.notice} was told at {one.at}, cancelled at {cancelled_at}")
    return offenders


def told_to_others(told: Iterable[Told], history: Mapping[int, History]) -> list[str]:
    """Each email to the order's own customer."""
    return [
        f"{one.notice} was told to {one.to}"
        for one in told
        if one.to and one.to != history[one.notice.order_id][0].order["order_email"]
    ]


def too_many_a_day(told: Iterable[Told], most: int = 3) -> list[str]:
    """No address gets more than a few messages a day."""
    messages: dict[tuple[str, date], set[int]] = defaultdict(set)
    for one in told:
        if one.to:
            messages[one.to, one.at.date()].add(one.message)
    return [
        f"{address} had {len(some)} messages on {day}"
        for (address, day), some in messages.items()
        if len(some) > most
    ]


def team_not_told(due: Iterable[Due], digests: Sequence[Digest], runs: Iterable[Run]) -> list[str]:
    """The first digest after an exception or a delay began calls the order new."""
    telling = sorted((run for run in runs if run.team_is_told), key=lambda run: run.end)
    for_the_team = [one for one in due if one.notice.rule in {"lost", "late", "waiting"}]
    return [
        f"the team was not told of {one.notice} by {run.name} of {run.begin}"
        for one in for_the_team
        for run in _first(telling, one)
        if not any(
            digest.at <= run.end and one.notice.order_id in digest.new
            for digest in digests
            if digest.at >= one.spans[0].begin
        )
    ]


def _first(runs: Iterable[Run], one: Due) -> list[Run]:
    """The first run that had to tell the team of something."""
    order_id = one.notice.order_id
    return [
        run
        for run in runs
        if order_id in run.orders - run.left
        and any(s.begin + _A_MOMENT <= run.begin and run.end <= s.end for s in one.spans)
    ][:1]


# The rules about statuses that are written


def written_against_the_rules(
    written: Iterable[Written], tags: Mapping[int, Collection[str]]
) -> list[str]:
    """A stage is for orders made to order, old enough, not sent, not cancelled; and never back."""
    return [
        f"order {one.before.order['order_id']} was set to {one.status} at {one.at}: {problem}"
        for one in written
        for problem in _problems(one, tags[one.before.order["order_id"]])
    ]


def _problems(one: Written, tags: Collection[str]) -> Iterator[str]:
    order = one.before.order
    places = {stage.casefold(): place for place, (stage, _) in enumerate(STAGES)}
    shown = order["statuses"][0].casefold() if order["statuses"] else ""
    age = one.at - datetime.fromisoformat(order["order_created_at"])
    if MADE_TO_ORDER not in tags:
        yield "it is not made to order"
    if order["fulfillments"]:
        yield "it was sent"
    if one.before.is_cancelled:
        yield "it is cancelled"
    if one.status not in places:
        yield "it is no stage"
        return
    if age < STAGES[places[one.status]][1]:
        yield f"it is {age} old"
    if places.get(shown, -1) >= places[one.status]:
        yield f"it was {shown}"


def not_written(
    history: Mapping[int, History], tags: Mapping[int, Collection[str]], runs: Iterable[Run]
) -> list[str]:
    """After each run what is made shows its stage, and what was sent is the carrier's."""
    return [
        f"order {order_id} {problem} after {run.name} of {run.begin}"
        for run in runs
        for order_id in sorted(run.orders - run.left)
        if not run.failed and MADE_TO_ORDER in tags[order_id]
        for problem in _unwritten(history[order_id], run)
    ]


def _unwritten(history: History, run: Run) -> Iterator[str]:
    before, after = _as_of(history, run.begin), _as_of(history, run.end)
    order = after.order
    stages = [
        stage
        for stage, from_age in STAGES
        if from_age <= run.begin - datetime.fromisoformat(order["order_created_at"])
    ]
    moved = before.order["fulfillments"] != order["fulfillments"]
    if after.is_cancelled or (moved and not before.order["fulfillments"]):
        return
    if not order["fulfillments"]:
        if stages and order["statuses"] != stages[-1:]:
            yield f"shows {order['statuses']}, not {stages[-1]}"
    elif _is_sent(before.order) and not order["automatic_carrier_updates"]:
        yield "is not updated by the carrier"


def _is_sent(order: dict[str, Any]) -> bool:
    """Whether all of it was sent, and none has arrived."""
    lines = {item["id"] for parcel in order["fulfillments"] for item in parcel["line_items"]}
    statuses = {parcel["shipment_status"] for parcel in order["fulfillments"]}
    return len(lines) == order["line_item_count"] and "delivered" not in statuses


def _as_of(history: History, time: datetime) -> Seen:
    place = bisect_right([seen.at for seen in history], time)
    return history[max(0, place - 1)]


BY_MAIL = frozenset({"status", "whole", "survey", "lost", "late", "waiting", "made"})
BY_POST = frozenset({"pushed", "vip"})
