"""Fault injection: the effect of each fault, and its dependence on the seed."""

from collections import Counter
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor.sandbox import Faults, Sandbox
from prefect_tracktor.sandbox.faults import REQUEST_FAULTS, FaultInjector


def outcome(api: httpx.Client, path: str = "status-options.json", **request: Any) -> str:
    try:
        response = api.request(request.pop("method", "GET"), path, **request)
    except httpx.TransportError as error:
        return type(error).__name__
    return str(response.status_code)


def response_or_none(api: httpx.Client) -> httpx.Response | None:
    try:
        return api.get("status-options.json")
    except httpx.TransportError:
        return None


@given(
    shares=st.lists(st.integers(0, 5), min_size=5, max_size=5).filter(lambda s: sum(s) > 0),
    seed=st.integers(),
)
def test_the_same_seed_draws_the_same_faults(shares: list[int], seed: int) -> None:
    shared = dict(
        zip(map(str, REQUEST_FAULTS), (share / sum(shares) for share in shares), strict=True)
    )
    faults = Faults.model_validate(shared | {"seed": seed})
    first, second = FaultInjector(faults), FaultInjector(faults)
    drawn = [first.next_request() for _ in range(30)]
    assert drawn == [second.next_request() for _ in range(30)]
    assert all(injected.kind is None or getattr(faults, injected.kind) for injected in drawn)


def test_faults_are_as_frequent_as_their_probabilities() -> None:
    injector = FaultInjector(Faults.everything(0.5))
    counts = Counter(injector.next_request().kind for _ in range(5000))
    assert 2300 < counts[None] < 2700
    assert all(400 < counts[kind] < 600 for kind in REQUEST_FAULTS)


def test_half_of_the_dropped_requests_and_no_429_are_processed() -> None:
    assert not any(
        FaultInjector(Faults(too_many_requests=1)).next_request().is_processed for _ in range(20)
    )
    injector = FaultInjector(Faults(dropped=1))
    assert 400 < sum(injector.next_request().is_processed for _ in range(1000)) < 600


@pytest.mark.parametrize(
    "fields", [{"dropped": 0.6, "not_json": 0.5}, {"dropped": -0.1}, {"latency": 1}]
)
def test_invalid_faults_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Faults.model_validate(fields)


def test_a_429_has_a_retry_after_header(tracktor: Sandbox, api: httpx.Client) -> None:
    tracktor.faults = Faults(too_many_requests=1, retry_after_seconds=7)
    response = api.get("webhooks.json")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


def test_server_errors_are_json_or_html_and_a_503_is_not_processed(
    tracktor: Sandbox, api: httpx.Client
) -> None:
    tracktor.faults = Faults(server_error=1)
    responses, processed = set(), Counter[int]()
    for _ in range(60):
        before = len(tracktor.shop.webhooks)
        response = api.post(
            "webhooks.json", json={"topic": "order/all", "address": "http://127.0.0.1:9/"}
        )
        responses.add((response.status_code, response.headers["Content-Type"].split(";")[0]))
        processed[response.status_code] += len(tracktor.shop.webhooks) - before
    assert {status for status, _ in responses} == {500, 502, 503, 504}
    assert {kind for _, kind in responses} == {"application/json", "text/html"}
    assert processed[HTTPStatus.SERVICE_UNAVAILABLE] == 0
    assert 0 < processed.total() < 60


def test_a_request_on_a_dropped_connection_may_have_been_processed(
    tracktor: Sandbox, api: httpx.Client
) -> None:
    tracktor.faults = Faults(dropped=1)
    ids = list(tracktor.shop.order_ids[:20])
    for order_id in ids:
        result = outcome(
            api, f"orders/{order_id}.json", method="POST", json={"order": {"status": "Sewing"}}
        )
        assert result in {"ReadError", "RemoteProtocolError"}
    assert 0 < sum(map(tracktor.shop.revision, ids)) < 20
    assert tracktor.faults_met == {"dropped": 20}


def test_truncated_bodies_end_early_or_look_complete(tracktor: Sandbox, api: httpx.Client) -> None:
    tracktor.faults = Faults(truncated=1)
    outcomes = Counter(outcome(api) for _ in range(20))
    assert set(outcomes) == {"200", "RemoteProtocolError"}
    complete = next(response for response in (response_or_none(api) for _ in range(20)) if response)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        complete.json()


def test_responses_that_are_not_json_have_status_200(tracktor: Sandbox, api: httpx.Client) -> None:
    tracktor.faults = Faults(not_json=1)
    types = set()
    for _ in range(10):
        response = api.get("webhooks.json")
        types.add(response.headers["Content-Type"].split(";")[0])
        assert response.status_code == 200
        with pytest.raises(ValueError, match="Expecting value"):
            response.json()
    assert types == {"text/html", "application/json"}


def test_latency_delays_the_response_after_processing(tracktor: Sandbox, api: httpx.Client) -> None:
    tracktor.faults = Faults(latency_seconds=30)
    order_id = tracktor.shop.order_ids[0]
    with pytest.raises(httpx.ReadTimeout):
        api.post(f"orders/{order_id}.json", json={"status": "Sewing"}, timeout=0.3)
    assert tracktor.shop.revision(order_id) == 1


def test_the_same_seed_injects_the_same_faults(tracktor: Sandbox, api: httpx.Client) -> None:
    runs = []
    for _ in range(2):
        tracktor.faults = Faults.everything(0.8, seed=3)
        tracktor.reset_calls()
        for _ in range(30):
            outcome(api)
        runs.append(tracktor.faults_met)
    assert runs[0] == runs[1]
    assert set(runs[0]) == set(REQUEST_FAULTS)
