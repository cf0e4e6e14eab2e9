"""Shopify client: access tokens, throttling, and the calls of `shopify.api`."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Self, TypeVar

from prefect_tracktor.errors import AuthenticationError
from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.sessions import open_session
from prefect_tracktor.shopify import api
from prefect_tracktor.shopify.api import Grant, OrderPage, Reply

T = TypeVar("T")

_RENEW_BEFORE_SECONDS = 300


class ShopifyClient:
    """Shopify client for sync code. Use it with `with`; threads may share it."""

    def __init__(
        self,
        address: str,
        *,
        access_token: str,
        client_id: str,
        client_secret: str,
        api_version: str,
        limits: TransportLimits,
    ) -> None:
        self._api_version = api_version
        self._access_token = access_token
        self._app = {"client_id": client_id, "client_secret": client_secret}
        parts = "\0".join((address, access_token, client_id, client_secret))
        # identifies an app on a shop without revealing either; a new secret is a new identity
        self._account = hashlib.sha256(parts.encode()).hexdigest()[:20]
        secrets = tuple(filter(None, (access_token, client_secret)))
        self._session = open_session(
            address, account=self._account, limits=limits, headers={}, secrets=secrets
        )
        self._may_send_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        blocking.run(self._session.aclose())

    def granted_scopes(self) -> frozenset[str]:
        """Return the access scopes that the app has been granted on this shop."""
        return self.send(api.granted_scopes(self._api_version))

    def list_orders(
        self, search: str, *, after: str = "", first: int = 250, addresses: bool = True
    ) -> OrderPage:
        """List the orders that match a search; see `api.list_orders`."""
        return self.send(
            api.list_orders(
                search,
                after=after,
                first=first,
                addresses=addresses,
                api_version=self._api_version,
            )
        )

    def add_tags(self, order_id: int, *tags: str) -> None:
        """Add tags to an order; the app needs the scope `write_orders`."""
        self.send(api.add_tags(order_id, tags, api_version=self._api_version))

    def send(self, query: ApiCall[Reply[T]]) -> T:
        """Send a query, with a new token if the old one has expired, and return its data."""
        token = self._token()
        try:
            reply = self._send(query, token)
        except AuthenticationError as refused:
            if self._access_token or refused.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            _tokens.forget(self._account, token)
            reply = self._send(query, self._token())
        self._may_send_at = time.monotonic() + reply.pause.total_seconds()
        return reply.data

    def _send(self, query: ApiCall[Reply[T]], token: str) -> Reply[T]:
        time.sleep(max(0.0, self._may_send_at - time.monotonic()))
        # with this header, the response names the filters that Shopify does not understand
        headers = {"x-shopify-access-token": token, "shopify-search-query-debug": "1"}
        secret = replace(query, secrets=(*query.secrets, token))
        return blocking.run(self._session.send(secret, headers=headers))

    def _token(self) -> str:
        return self._access_token or _tokens.get(self._account, self._new_grant)

    def _new_grant(self) -> Grant:
        form = {"grant_type": "client_credentials"} | self._app
        return blocking.run(self._session.send(replace(api.grant(), form=form)))


class _Tokens:
    """Access tokens of this process by account, in memory only."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[str, tuple[str, float]] = {}

    def get(self, account: str, new_grant: Callable[[], Grant]) -> str:
        """Return the account's token; one thread requests a new one while the others wait."""
        with self._locks.setdefault(account, threading.Lock()):
            token, expires_at = self._tokens.get(account, ("", 0.0))
            if time.monotonic() < expires_at:
                return token
            requested_at = time.monotonic()
            grant = new_grant()
            expires_at = requested_at + grant.expires_in - _RENEW_BEFORE_SECONDS
            self._tokens[account] = (grant.access_token, expires_at)
            return grant.access_token

    def forget(self, account: str, token: str) -> None:
        """Drop this token, unless another thread has replaced it already."""
        with self._locks.setdefault(account, threading.Lock()):
            if self._tokens.get(account, ("", 0.0))[0] == token:
                del self._tokens[account]


_tokens = _Tokens()
