"""Run forms of the flows: few parameters, each with a title and a description."""

import re
from typing import Any

import pytest
from prefect import Flow

from prefect_tracktor import flows

FLOWS: list[Flow[..., Any]] = [
    flow for name in flows.__all__ if isinstance(flow := getattr(flows, name), Flow)
]
TITLE = re.compile(r"[A-Z][A-Za-z0-9 -]*( \((days|hours|minutes|seconds)\))?")
MOST = 10


def in_place(fields: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(fields.values(), key=lambda field: field["position"])


def title_of(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the title of a field, or else of the definition that it refers to."""
    part = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    return str(field.get("title") or part.get("title"))


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_a_run_form_is_short_and_described(flow: Flow[..., Any]) -> None:
    schema = flow.parameters
    assert len(schema.properties) <= MOST
    for field in in_place(schema.properties):
        assert TITLE.fullmatch(title_of(field, schema.definitions))
        assert field["description"].endswith(".")
        assert "`" not in field["description"], "forms show markup as plain text"


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_required_parameters_come_first_in_a_form(flow: Flow[..., Any]) -> None:
    required = [
        name in flow.parameters.required
        for name, _ in sorted(flow.parameters.properties.items(), key=lambda e: e[1]["position"])
    ]
    assert required == sorted(required, reverse=True)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_nested_form_fields_are_described_and_ordered(flow: Flow[..., Any]) -> None:
    for name, part in flow.parameters.definitions.items():
        if "properties" in part:
            assert "Example" not in part["description"], "a form shows it where it offers a choice"
        for field in part.get("properties", {}).values() if not is_block(part) else ():
            assert TITLE.fullmatch(title_of(field, flow.parameters.definitions)), name
            assert field["description"].endswith("."), name
            assert "position" in field, name


def is_block(part: dict[str, Any]) -> bool:
    """Whether a form offers the saved blocks of a type, and not its fields."""
    return "block_type_slug" in part
