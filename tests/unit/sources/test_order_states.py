"""Order states in exports, truncated files, and sources without orders."""

import itertools
import json
from collections.abc import Iterator

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import InvalidInput, OrderFile
from prefect_tracktor.sources import FoundOrder, FoundOrders, iter_orders
from prefect_tracktor.sources.order_state import has_state, states_in

EXPORT = """\
Name,Email,Financial Status,Fulfillment Status,Lineitem name,Cancelled at,Id
#11,a@example.com,paid,fulfilled,Mug,,11
#12,b@example.com,voided,fulfilled,Mug,2026-10-03 09:00:00 -0400,12
#12,b@example.com,,,Cup,,
#13,c@example.com,refunded,fulfilled,Mug,,13
#13,c@example.com,,,Cup,,13
#14,d@example.com,paid,unfulfilled,Mug,,14
#15,e@example.com,partially_refunded,partial,Mug,,15
#15,e@example.com,,,Cup,,
#16,f@example.com,voided,fulfilled,Mug,,16
"""


def orders_in(content: str, suffix: str = ".csv", **fields: bool) -> FoundOrders:
    fsspec.filesystem("memory").pipe(f"/states{suffix}", content.encode())
    return OrderFile.model_validate({"path": f"memory://states{suffix}"} | fields).find_orders()


def ids_of(content: str, suffix: str = ".csv", **fields: bool) -> list[int]:
    return list(orders_in(content, suffix, **fields).order_ids)


def test_cancelled_refunded_and_unfulfilled_orders_are_left_out_and_counted() -> None:
    ids = orders_in(EXPORT)
    assert list(ids.order_ids) == [11, 15]
    assert ids.left_out == {"cancelled": 1, "refunded": 1, "voided": 1, "unfulfilled": 1}
    assert ids.note == "left out: 1 cancelled, 1 refunded, 1 voided, 1 unfulfilled"


def test_cancelled_and_unfulfilled_orders_can_be_included() -> None:
    assert ids_of(EXPORT, include_unfulfilled=True) == [11, 14, 15]
    assert ids_of(EXPORT, include_cancelled=True) == [11, 12, 13, 15, 16]
    assert ids_of(EXPORT, include_cancelled=True, include_unfulfilled=True) == list(range(11, 17))


@pytest.mark.parametrize(
    ("column", "value", "is_found"),
    [
        ("Cancelled at", "2026-10-03 09:00:00 -0400", False),
        ("Canceled At", "2026-10-03", False),
        ("cancelled_at", "2026-10-03T09:00:00Z", False),
        ("cancelledAt", "2026-10-03T09:00:00Z", False),
        ("Cancelled", "yes", False),
        ("Cancelled", "FALSE", True),
        ("Cancelled", "0", True),
        ("Cancelled", "0.0", True),
        ("Cancelled", "1.0", False),
        ("Cancelled at", "0000-00-00 00:00:00", True),
        ("Cancelled at", "-", True),
        ("Cancelled by", "Ada", True),
        ("Cancel reason", "none", True),
        ("Cancel reason", "customer", False),
        ("cancel_reason", "", True),
        ("Cancellation Reason", "Out of stock", False),
        ("Cancel Date", "2026-10-03", False),
        ("Cancelled", "\u2713", False),
        ("Cancelled", "\u2014", True),
        ("Cancelled", "\u2717", True),
        ("Status", "Cancelled by customer", False),
        ("Order status", "CANCELLED - refunded", False),
        ("Status", "not cancelled", True),
        ("Financial Status", "Refunded in full", False),
        ("Financial Status", "Partially refunded", True),
        ("FINANCIAL STATUS", "Refunded", False),
        ("financial_status", "partially_refunded", True),
        ("Payment: Status", "voided", False),
        ("displayFinancialStatus", "VOIDED", False),
        ("displayFinancialStatus", "PAID", True),
        ("Payment status", "pending", True),
        ("Order status", "Canceled", False),
        ("Status", "cancelled", False),
        ("Status", "open", True),
        ("Fulfilment Status", "Unfulfilled", False),
        ("displayFulfillmentStatus", "UNFULFILLED", False),
        ("Fulfillment: Status", "cancelled", False),
        ("Order Fulfillment Status", "partial", True),
        ("Lineitem fulfillment status", "unfulfilled", True),
        ("Notes", "cancelled", True),
    ],
)
def test_order_states_are_read_from_the_columns_of_other_exports(
    column: str, value: str, is_found: bool
) -> None:
    assert ids_of(f"{column},Id\n{value},5001\n") == ([5001] if is_found else [])
    line = json.dumps({column: value, "id": 5001})
    assert ids_of(line, ".jsonl") == ([5001] if is_found else [])


def test_order_states_are_read_from_json_values() -> None:
    lines = [
        {"id": 1, "cancelled_at": None, "financial_status": "paid", "fulfillment_status": None},
        {"id": 2, "cancelled_at": {"$date": "2026-10-03T09:00:00Z"}},
        {"id": 3, "cancelled": True},
        {"id": 4, "cancelled": False},
        {"id": 5},
    ]
    assert ids_of("\n".join(map(json.dumps, lines)), ".jsonl") == [1, 4, 5]


def test_a_later_line_of_an_order_decides_its_missing_state() -> None:
    header = "Fulfillment Status,Financial Status,Id\n"
    assert ids_of(f"{header}unfulfilled,paid,1\nfulfilled,paid,1\n") == [1]
    assert ids_of(f"{header},,1\nfulfilled,refunded,1\n") == []
    assert ids_of(f"{header},,1\n,,2\n") == [1, 2]


order_states = st.sampled_from(["", "paid", "refunded", "voided"])


@given(states=st.lists(st.tuples(order_states, st.booleans()), min_size=1, max_size=6))
def test_the_sequence_of_lines_does_not_change_the_orders_found(
    states: list[tuple[str, bool]],
) -> None:
    rows = [
        f"{status},{'2026-10-03' if cancelled else ''},{order_id}"
        for order_id, (status, cancelled) in enumerate(states, start=1)
    ] + [f",,{order_id}" for order_id in range(1, len(states) + 1)]
    header = "Financial Status,Cancelled at,Id"
    wanted = {
        order_id
        for order_id, (status, cancelled) in enumerate(states, start=1)
        if not cancelled and status in {"", "paid"}
    }
    for shuffled in itertools.islice(itertools.permutations(rows), 20):
        assert set(ids_of("\n".join([header, *shuffled, ""]))) == wanted


def test_a_file_without_any_order_gives_the_reason() -> None:
    only_header = orders_in("Name,Id\n")
    assert list(only_header) == []
    assert only_header.why_none.startswith("states.csv: a header and no rows under it")
    all_out = orders_in("Id,Cancelled at,Fulfillment Status\n1,2026-10-03,\n2,,unfulfilled\n")
    assert list(all_out) == []
    assert all_out.why_none == (
        "states.csv: all orders in it are left out (1 cancelled, 1 unfulfilled); if they are"
        " wanted, set include_cancelled and include_unfulfilled of the OrderFile"
    )


@pytest.mark.parametrize("content", ["\n\n", " \r\n", ",,\n", '"",""\n', "\ufeff\n"])
def test_a_file_of_blank_lines_is_rejected(content: str) -> None:
    with pytest.raises(
        InvalidInput, match="line 1: the file has only blank lines; export it again"
    ):
        ids_of(content)


def test_an_empty_list_and_a_custom_source_give_a_reason() -> None:
    class Warehouse:
        def find_orders(self) -> Iterator[FoundOrder]:
            return iter(())

    assert iter_orders([]).why_none == "the list `orders` is empty"
    assert iter_orders(Warehouse()).why_none == "the Warehouse finds no order"


@pytest.mark.parametrize(
    "content",
    [
        "Name,Id\n#1,55001\n#2,55002\n#3,550",
        "Name,Id\n#1,55001\n#2,55002\n#3",
        "Name,Id,Note\n#1,55001,x\n#2,55002,y\n#3,550",
        "Id,Name\r\n55001,a\r\n55002,b\r\n55",
        'Name,Id\n#1,55001\n#2,55002\n"#3',
        "Name,Id\n#1,gid://shopify/Order/55001\n#2,gid://shopify/Order/55",
    ],
)
def test_a_csv_file_truncated_within_a_row_is_rejected(content: str) -> None:
    with pytest.raises(InvalidInput, match=r"cut off|not well-formed"):
        ids_of(content)


def test_truncated_json_lines_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="its id is shorter than all others"):
        ids_of("55001\n55002\n550", ".jsonl")
    with pytest.raises(InvalidInput, match="not JSON"):
        ids_of('{"id": 55001}\n{"id": 550', ".jsonl")


@pytest.mark.parametrize(
    "content",
    [
        "Name,Id\n#1,55001\n#2,55002\n#3,55003",
        "Name,Id\n#1,55001\n#2,551\n#3,550",  # not the only short one
        "Name,Id\n#1,55001\n#2,55002\n#3,550\n",  # it ends as a line ends
        "Id,Note\n55001\n55002,x\n55003",  # not the only one with fewer cells
        "Id\n55001",
        "550,Id\n1,55001",
    ],
)
def test_a_complete_last_line_needs_no_line_end(content: str) -> None:
    assert ids_of(content)


@given(
    rows=st.lists(
        st.tuples(st.integers(10**12, 10**13 - 1), st.text("abc ,\"'", max_size=5)),
        min_size=2,
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    data=st.data(),
)
def test_a_truncated_file_never_yields_a_new_id(
    rows: list[tuple[int, str]], data: st.DataObject
) -> None:
    text = "Note,Id\n" + "".join(
        '"{}",{}\n'.format(note.replace('"', '""'), order_id) for order_id, note in rows
    )
    # from the second row on: with one row there is nothing to compare
    least = len("".join(text.splitlines(keepends=True)[:2]))
    cut = data.draw(st.integers(least, len(text)))
    try:
        found = ids_of(text[:cut])
    except InvalidInput:
        return
    assert set(found) <= {order_id for order_id, _ in rows}


def test_columns_with_order_states_are_recognized_by_name() -> None:
    assert has_state("Date cancelled")
    assert not has_state("Cancelled items")
    assert states_in({"Status": None}) is None
    assert states_in({}) == frozenset()


def test_a_truncated_order_state_is_rejected() -> None:
    whole = "Id,Financial Status\n1001,paid\n1002,refunded\n"
    for end in range(len("efunded")):
        with pytest.raises(InvalidInput, match="cut off"):
            ids_of(whole[: -2 - end])
    with pytest.raises(InvalidInput, match="cut off"):
        ids_of("Id,Fulfillment Status\n1001,fulfilled by us\n1002,fulfilled\n1003,fulfilled")
    assert ids_of("Id,Financial Status\n1001,paid\n1002,paid") == [1001, 1002]
    assert ids_of("Id,Financial Status\n1001,paid") == [1001]
    assert ids_of("Id,Financial Status\n1001,paid\n1002,") == [1001, 1002]
    assert ids_of("Id,Cancelled at\n1001,\n1003,2026-10-01\n1002,2026-") == [1001]
