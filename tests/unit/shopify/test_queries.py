"""Shopify queries, checked against the part of the schema that they use."""

from datetime import timedelta
from typing import Any

import pytest
from graphql import build_schema, parse, validate

from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.shopify import api

# as Shopify documents it
SCHEMA = build_schema("""
    scalar DateTime
    scalar UnsignedInt64
    enum OrderSortKeys { CREATED_AT ID }
    type Query {
      orders(
        first: Int!, after: String, query: String, sortKey: OrderSortKeys = ID
      ): OrderConnection!
      currentAppInstallation: AppInstallation!
    }
    type OrderConnection { nodes: [Order!]! pageInfo: PageInfo! }
    type PageInfo { hasNextPage: Boolean! endCursor: String }
    type Order {
      id: ID!
      legacyResourceId: UnsignedInt64!
      name: String!
      createdAt: DateTime!
      updatedAt: DateTime!
      cancelledAt: DateTime
      tags: [String!]!
      displayFinancialStatus: String
      displayFulfillmentStatus: String!
      customerLocale: String
      shippingLine: ShippingLine
      shippingAddress: MailingAddress
      fulfillments(first: Int): [Fulfillment!]!
    }
    type ShippingLine { title: String! }
    type MailingAddress { countryCodeV2: String }
    type Fulfillment { displayStatus: String }
    type AppInstallation { accessScopes: [AccessScope!]! }
    type AccessScope { handle: String! }
""")

QUERIES = [
    api.granted_scopes("2026-10"),
    api.list_orders("tag:vip", first=250, api_version="2026-10"),
    api.list_orders("tag:vip", first=250, addresses=False, api_version="2026-10"),
]


@pytest.mark.parametrize("query", QUERIES)
def test_shopify_queries_are_valid_for_the_schema(query: ApiCall[Any]) -> None:
    assert query.json is not None
    assert validate(SCHEMA, parse(query.json["query"])) == []


@pytest.mark.parametrize(
    "query",
    [
        "{ products(first: 3) { nodes { id } } }",
        "{ orders(first: 3) { nodes { email } } }",
        "{ orders { nodes { id } } }",
        "{ orders(first: 3, sortKey: TOTAL) { nodes { id } } }",
    ],
)
def test_queries_for_unknown_fields_are_invalid_for_the_schema(query: str) -> None:
    assert validate(SCHEMA, parse(query))


@pytest.mark.parametrize("restore_rate", [1e-3, 1e-300])
def test_the_pause_before_the_next_query_is_a_minute_at_most(
    restore_rate: float,
) -> None:
    throttle = {"currentlyAvailable": 0, "restoreRate": restore_rate}
    reply = api.granted_scopes("2026-10").read(
        {
            "data": {"currentAppInstallation": {"accessScopes": [{"handle": "read_orders"}]}},
            "extensions": {"cost": {"requestedQueryCost": 500, "throttleStatus": throttle}},
        }
    )
    assert reply.pause == timedelta(minutes=1)
