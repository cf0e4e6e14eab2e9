"""The audit's rules, each a function over the records.

They derive the notices that are due from the shop's history, independently of the package's code.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.system.audit.records import WHOLE_ORDER, Digest, Due, Notice, ReceivedNotice, Run, Span
from tests.system.audit.world import MADE_TO_ORDER, VIP, Snapshot, StatusUpdate

History = Sequence[Snapshot]
DAY = timedelta(days=1)
LADDER = ("order_ready", "in_transit", "out_for_delivery", "delivered")
NEWS = 3 * DAY
SURVEY_AFTER, SURVEY_WITHIN = DAY, 2 * DAY
STALLED_AFTER = 3 * DAY
NOT_SHIPPED_AFTER = 5 * DAY
REMINDERS, REMIND_EVERY = 2, 3 * DAY
STAGES = (("Cutting", DAY), ("Sewing", 2.5 * DAY))
# times of parcels have no fractions of a second; a reminder may be early by up to six hours
_TOLERANCE = timedelta(seconds=2)
_EARLIEST = timedelta(hours=6)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


# Notices that are due, from the history of the shop


def due_of(order_id: int, history: History, tags: Collection[str] = ()) -> Iterator[Due]:
    """Yield the notices about an order that the customer and the service should receive."""
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
    """Yield the periods in which an order shows a value and is not cancelled."""
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
    """Return the status that was set by hand and is still shown, and since when."""
    latest = [parcel["latest_status"] for parcel in order["fulfillments"]]
    shown = (f"{s['label']} {s['datetime']}" for s in latest if s["label"] in dict(STAGES))
    return next(shown, None)


def _whole_order(order: dict[str, Any]) -> str | None:
    """Return `delivered` if each line of the order is in a parcel, and all have arrived."""
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


# Rules about notices: each returns the problems that it finds


def sent_too_often(received: Iterable[ReceivedNotice], due: Iterable[Due]) -> list[str]:
    """Each notice is sent once, a reminder as often as its rule says."""
    allowed = {one.notice: one.times for one in due}
    counts = Counter(one.notice for one in received)
    return [
        f"{notice} was sent {count} times"
        for notice, count in counts.items()
        if count > allowed.get(notice, 1)
    ]


def sent_without_reason(
    received: Iterable[ReceivedNotice], due: Iterable[Due], runs: Sequence[Run]
) -> list[str]:
    """Each notice is sent in its period: its reason was true at some time of the run."""
    spans = {one.notice: one.spans for one in due}
    begins = _Begins(runs)
    return [
        f"{one.notice} was sent at {one.at}, in the times {spans.get(one.notice, 'of none')}"
        for one in received
        if not any(
            span.begin - _TOLERANCE <= one.at and begins.before(one.at) <= span.end + _TOLERANCE
            for span in spans.get(one.notice, ())
        )
    ]


class _Begins:
    """The beginning of the run in which a notice was sent; of several, the first."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = sorted(runs, key=lambda run: run.begin)

    def before(self, at: datetime) -> datetime:
        return min((run.begin for run in self._runs if run.begin <= at <= run.end), default=at)


def reminded_too_soon(received: Iterable[ReceivedNotice], due: Iterable[Due]) -> list[str]:
    """No reminder is sent too early."""
    every = {one.notice: one.every for one in due}
    return [
        f"{notice} was sent at {first} and again at {second}"
        for notice, some in _times_of(received).items()
        for first, second in pairwise(some)
        if second - first < every.get(notice, timedelta(0)) - _EARLIEST
    ]


def not_sent(
    due: Iterable[Due],
    received: Iterable[ReceivedNotice],
    runs: Sequence[Run],
    unreachable: Collection[int] = (),
) -> list[str]:
    """No notice is missing: the first responsible run sent it, or reported the order as left."""
    times = _times_of(received)
    later = _LaterStages(received)
    ordered = sorted(runs, key=lambda run: run.end)
    return [
        problem
        for one in due
        if one.notice.order_id not in unreachable or one.notice.rule in BY_POST
        for problem in _missed(
            one,
            times[one.notice],
            [run for run in ordered if run.must_have_sent(one.notice)],
            later,
        )
    ]


def _times_of(received: Iterable[ReceivedNotice]) -> dict[Notice, list[datetime]]:
    times: dict[Notice, list[datetime]] = defaultdict(list)
    for one in sorted(received, key=lambda one: one.at):
        times[one.notice].append(one.at)
    return times


def _missed(
    one: Due, times: Sequence[datetime], runs: Iterable[Run], later: "_LaterStages"
) -> Iterator[str]:
    for run in runs:
        whole = [s for s in one.spans if s.begin + _TOLERANCE <= run.begin and run.end <= s.end]
        known = [time for time in times if time <= run.end]
        is_next = not known or run.begin - max(known) >= one.every > timedelta(0)
        if whole and len(known) < one.times and is_next and not later.sent(one.notice, run.end):
            yield f"{one.notice} was not sent by {run.name} of {run.begin}, due in {whole[0]}"
            return


class _LaterStages:
    """The notices about later stages of a parcel."""

    def __init__(self, received: Iterable[ReceivedNotice]) -> None:
        self._received: dict[int, list[ReceivedNotice]] = defaultdict(list)
        for one in received:
            if one.notice.about in LADDER:
                self._received[one.notice.parcel].append(one)

    def sent(self, notice: Notice, by: datetime) -> bool:
        """Whether a notice of a later stage was sent about the same parcel."""
        return any(
            one.at <= by and _comes_before(notice, one.notice)
            for one in self._received[notice.parcel]
        )


def _comes_before(notice: Notice, other: Notice) -> bool:
    """Whether a notice is about an earlier stage of the same parcel than another."""
    if notice.parcel == WHOLE_ORDER or notice.parcel != other.parcel or other.about not in LADDER:
        return False
    if notice.about in LADDER:
        return LADDER.index(notice.about) < LADDER.index(other.about)
    return other.about == "delivered"


def earlier_stage_after_later(received: Iterable[ReceivedNotice]) -> list[str]:
    """No notice of an earlier stage follows one of a later stage, across rules and channels."""
    by_parcel: dict[int, list[ReceivedNotice]] = defaultdict(list)
    for one in sorted(received, key=lambda one: one.at):
        by_parcel[one.notice.parcel].append(one)
    return [
        f"{after.notice} was sent at {after.at}, after {before.notice}"
        for some in by_parcel.values()
        for place, before in enumerate(some)
        for after in some[place + 1 :]
        if _comes_before(after.notice, before.notice)
    ]


def sent_to_cancelled(
    received: Iterable[ReceivedNotice], history: Mapping[int, History], runs: Sequence[Run]
) -> list[str]:
    """No notice is about an order that was cancelled before the run began."""
    begins = _Begins(runs)
    offenders = []
    for one in received:
        cancelled_at = next(
            (seen.at for seen in history[one.notice.order_id] if seen.is_cancelled), None
        )
        if cancelled_at and cancelled_at < begins.before(one.at):
            offenders.append(f"{one.notice} was sent at {one.at}, cancelled at {cancelled_at}")
    return offenders


def sent_to_others(received: Iterable[ReceivedNotice], history: Mapping[int, History]) -> list[str]:
    """Each email goes to the order's customer."""
    return [
        f"{one.notice} was sent to {one.to}"
        for one in received
        if one.to and one.to != history[one.notice.order_id][0].order["order_email"]
    ]


def too_many_a_day(received: Iterable[ReceivedNotice], most: int = 3) -> list[str]:
    """No address gets more than a few messages a day."""
    messages: dict[tuple[str, date], set[int]] = defaultdict(set)
    for one in received:
        if one.to:
            messages[one.to, one.at.date()].add(one.message)
    return [
        f"{address} had {len(some)} messages on {day}"
        for (address, day), some in messages.items()
        if len(some) > most
    ]


def missing_in_digests(
    due: Iterable[Due], digests: Sequence[Digest], runs: Iterable[Run]
) -> list[str]:
    """The first digest after an exception or delay began marks the order as new."""
    with_digest = sorted((run for run in runs if run.sends_digest), key=lambda run: run.end)
    reported_to_team = [one for one in due if one.notice.rule in {"lost", "late", "waiting"}]
    return [
        f"no digest contained {one.notice} by {run.name} of {run.begin}"
        for one in reported_to_team
        for run in _first(with_digest, one)
        if not any(
            digest.at <= run.end and one.notice.order_id in digest.new
            for digest in digests
            if digest.at >= one.spans[0].begin
        )
    ]


def _first(runs: Iterable[Run], one: Due) -> list[Run]:
    """Return the first run that had to report a condition to the team."""
    order_id = one.notice.order_id
    return [
        run
        for run in runs
        if order_id in run.orders - run.left
        and any(s.begin + _TOLERANCE <= run.begin and run.end <= s.end for s in one.spans)
    ][:1]


# Rules about status updates


def invalid_updates(
    updates: Iterable[StatusUpdate], tags: Mapping[int, Collection[str]]
) -> list[str]:
    """Stages are set on orders made to order, old enough, not shipped or cancelled, in order."""
    return [
        f"order {one.before.order['order_id']} was set to {one.status} at {one.at}: {problem}"
        for one in updates
        for problem in _problems(one, tags[one.before.order["order_id"]])
    ]


def _problems(one: StatusUpdate, tags: Collection[str]) -> Iterator[str]:
    order = one.before.order
    places = {stage.casefold(): place for place, (stage, _) in enumerate(STAGES)}
    shown = order["statuses"][0].casefold() if order["statuses"] else ""
    age = one.at - datetime.fromisoformat(order["order_created_at"])
    if MADE_TO_ORDER not in tags:
        yield "it is not made to order"
    if order["fulfillments"]:
        yield "it was shipped"
    if one.before.is_cancelled:
        yield "it is cancelled"
    if one.status not in places:
        yield "it is no stage"
        return
    if age < STAGES[places[one.status]][1]:
        yield f"it is {age} old"
    if places.get(shown, -1) >= places[one.status]:
        yield f"it was {shown}"


def missing_updates(
    history: Mapping[int, History], tags: Mapping[int, Collection[str]], runs: Iterable[Run]
) -> list[str]:
    """After each run an order shows its stage, or is updated by the carrier if it shipped."""
    return [
        f"order {order_id} {problem} after {run.name} of {run.begin}"
        for run in runs
        for order_id in sorted(run.orders - run.left)
        if not run.failed and MADE_TO_ORDER in tags[order_id]
        for problem in _missing_update(history[order_id], run)
    ]


def _missing_update(history: History, run: Run) -> Iterator[str]:
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
    elif _has_shipped(before.order) and not order["automatic_carrier_updates"]:
        yield "is not updated by the carrier"


def _has_shipped(order: dict[str, Any]) -> bool:
    """Whether all parcels have shipped, and none is delivered."""
    lines = {item["id"] for parcel in order["fulfillments"] for item in parcel["line_items"]}
    statuses = {parcel["shipment_status"] for parcel in order["fulfillments"]}
    return len(lines) == order["line_item_count"] and "delivered" not in statuses


def _as_of(history: History, time: datetime) -> Snapshot:
    place = bisect_right([seen.at for seen in history], time)
    return history[max(0, place - 1)]


BY_MAIL = frozenset({"status", "whole", "survey", "lost", "late", "waiting", "made"})
BY_POST = frozenset({"pushed", "vip"})
