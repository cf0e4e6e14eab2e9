"""Desired statuses: validation of rows and status options."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import DesiredStatus, InvalidInput, StatusOption
from prefect_tracktor.statuses.desired import DesiredRow, agreed, checked_statuses, option_for

OPTIONS = [
    StatusOption(key="in_transit", label="In transit"),
    StatusOption(key="cutting", label="Cutting"),
    StatusOption(key="sewing", label="Sewing"),
    StatusOption(label="Gravur läuft"),
]


def rows(*desired: DesiredStatus) -> list[DesiredRow]:
    return [DesiredRow(f"line {line}", entry) for line, entry in enumerate(desired, start=2)]


@pytest.mark.parametrize(
    "fields",
    [
        {"order_id": 0},
        {"order_id": -5},
        {"order_id": True},
        {"order_id": "7a"},
        {"order_id": 2**63},
        {"order_id": 7, "status": 3},
        {"order_id": 7, "automatic_carrier_updates": "yes"},
    ],
)
def test_a_desired_status_with_an_invalid_field_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DesiredStatus(**fields)


def test_a_status_and_automatic_carrier_updates_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="contradict each other"):
        DesiredStatus(7, "Sewing", automatic_carrier_updates=True)


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_status_changes_nothing(blank: str | None) -> None:
    assert DesiredStatus(7, blank).asks_nothing


def test_equal_rows_count_once() -> None:
    agreement = agreed(rows(DesiredStatus(7, "Sewing"), DesiredStatus(7, " Sewing ")))
    assert [row.place for row in agreement.values()] == ["line 2"]


def test_an_error_lists_all_rows_that_disagree() -> None:
    with pytest.raises(InvalidInput) as caught:
        agreed(
            rows(
                DesiredStatus(7, "Sewing"),
                DesiredStatus(8, "Sewing"),
                DesiredStatus(7, "Cutting"),
                DesiredStatus(8, automatic_carrier_updates=True),
            )
        )
    assert "line 2 and line 4 disagree about order 7: status" in str(caught.value)
    assert "line 3 and line 5 disagree about order 8" in str(caught.value)


def test_an_error_about_many_rows_lists_some_and_counts_the_rest() -> None:
    wanted = rows(*(DesiredStatus(number, "Sowing") for number in range(1, 1001)))
    with pytest.raises(InvalidInput, match="and 980 more like these") as caught:
        checked_statuses(wanted, OPTIONS)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("status", "label"),
    [
        ("Sewing", "Sewing"),
        ("sewing", "Sewing"),
        ("in_transit", "In transit"),
        ("IN TRANSIT", "In transit"),
        ("gravur läuft", "Gravur läuft"),
        ("gravur_läuft", "Gravur läuft"),
    ],
)
def test_a_status_option_is_found_by_label_or_key(status: str, label: str) -> None:
    assert option_for(status, OPTIONS).label == label


@pytest.mark.parametrize("data", ["ada.lovelace@example.com", "Ada Lovelace", "12 Main Street"])
def test_errors_about_an_unknown_status_contain_no_customer_data(data: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"line 2: .* is not one of the account's statuses"
    ) as caught:
        checked_statuses(rows(DesiredStatus(7, data)), OPTIONS)
    with pytest.raises(InvalidInput, match="disagree") as doubled:
        agreed(rows(DesiredStatus(7, data), DesiredStatus(7, "Sewing")))
    for word in data.split():
        assert word not in f"{caught.value} {doubled.value}"


def test_spaces_around_a_label_are_removed() -> None:
    options = [StatusOption(label="Sewing ")]
    [row] = checked_statuses(rows(DesiredStatus(7, "sewing")), options)
    assert row.desired.status == "Sewing"


def test_an_exact_label_takes_precedence_and_an_ambiguous_one_is_rejected() -> None:
    options = [StatusOption(label="Ready"), StatusOption(label="READY")]
    assert option_for("READY", options).label == "READY"
    with pytest.raises(InvalidInput, match="the status may be 'Ready' and 'READY'"):
        option_for("ready", options)


@given(st.text(max_size=30))
def test_any_text_is_matched_to_an_option_or_rejected(status: str) -> None:
    try:
        option = option_for(status, OPTIONS)
    except InvalidInput:
        assert not any(option.label == status for option in OPTIONS)
    else:
        assert option.matches(status)
