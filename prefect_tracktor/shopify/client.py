"""`ShopifyClient`: a token, a throttle, and the calls of `prefect_tracktor.shopify.api`."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

from prefect_tracktor.client import checked_secret
from prefect_tracktor.errors import AuthenticationError, InvalidInput
from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.sessions import open_session
from prefect_tracktor.shopify import api
from prefect_tracktor.shopify.api import Grant, OrderPage, Reply
from prefect_tracktor.validation import checked_address

T = TypeVar("T")

API_VERSION = "2026-10"

_HANDLE = r"[a-z0-9][a-z0-9-]{0,99}"
_SHOP = re.compile(
    rf"(https?://)?(admin\.shopify\.com/store/({_HANDLE})|({_HANDLE})(\.myshopify\.com)?)([/?#].*)?"
)
_API_VERSION = re.compile(r"\d{4}-(0[1-9]|1[0-2])|unstable")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_RENEWED_BEFORE_ITS_END = timedelta(minutes=5)


def checked_shop(value: str) -> str:
    """Bring what people paste into the form that Shopify knows the shop by."""
    found = _SHOP.fullmatch(value.strip().lower())
    if found is None:
        raise InvalidInput(
            "shop must be the shop's own domain at Shopify, such as your-store.myshopify.com (in"
            " the Shopify admin: Settings, Domains), and not the domain that customers see"
        )
    return f"{found[3] or found[4]}.myshopify.com"


def checked_api_version(value: str) -> str:
    """Refuse what is no version of Shopify's API, before it becomes part of an address."""
    if not _API_VERSION.fullmatch(value):
        raise InvalidInput(
            f"api_version must be a year and a month, such as {API_VERSION}, or unstable"
        )
    return value


def refuse_unless_one_way_in(*, access_token: str, client_id: str, client_secret: str) -> None:
    """Refuse anything but one way to get into a shop."""
    if bool(access_token) == bool(client_id or client_secret):
        raise InvalidInput(
            "give client_id and client_secret of a Dev Dashboard app, or the access_token of an app"
            " that was made in the Shopify admin before 2026; "
            + ("both are given here" if access_token else "neither is given here")
        )
    if access_token:
        checked_secret(access_token, field="access_token", source="the app's page in the admin")
        if access_token.startswith("shpss_"):
            raise InvalidInput("access_token is a client secret (shpss_…); give it as that")
        return
    source = "the app's settings in the Dev Dashboard"
    if not _CLIENT_ID.fullmatch(client_id):
        raise InvalidInput(f"client_id is empty or not one; copy it from {source}")
    checked_secret(client_secret, field="client_secret", source=source)
    if client_secret.startswith("shpat_"):
        raise InvalidInput("client_secret is an access token (shpat_…); give it as that")


class ShopifyClient:
    """What is asked of Shopify, for sync code. Use it with `with`; it may be shared by threads."""

    def __init__(
        self,
        *,
        shop: str,
        access_token: str = "",
        client_id: str = "",
        client_secret: str = "",
        api_version: str = API_VERSION,
        base_url: str = "",
        limits: TransportLimits | None = None,
    ) -> None:
        refuse_unless_one_way_in(
            access_token=access_token, client_id=client_id, client_secret=client_secret
        )
        address = base_url and checked_address(base_url, field="base_url")
        self.limits = limits or TransportLimits()
        self._address = (address or f"https://{checked_shop(shop)}").rstrip("/") + "/admin/"
        self._api_version = checked_api_version(api_version)
        self._access_token = access_token
        self._app = {"client_id": client_id, "client_secret": client_secret}
        self._account = _account(self._address, access_token, client_id, client_secret)
        secrets = tuple(filter(None, (access_token, client_secret)))
        self._session = open_session(
            self._address, account=self._account, limits=self.limits, headers={}, secrets=secrets
        )
        self._may_send_at = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        blocking.run(self._session.aclose())

    def granted_scopes(self) -> frozenset[str]:
        """The access scopes that the app has been granted on this shop."""
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
        """Send a query, again if need be, and read its answer."""
        token = self._token()
        try:
            reply = self._ask(query, token)
        except AuthenticationError as refused:
            if self._access_token or refused.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            _tokens.forget(self._account, token)
            reply = self._ask(query, self._token())
        self._may_send_at = time.monotonic() + reply.pause.total_seconds()
        return reply.data

    def _ask(self, query: ApiCall[Reply[T]], token: str) -> Reply[T]:
        time.sleep(max(0.0, self._may_send_at - time.monotonic()))
        # a filter that Shopify does not understand is named in the answer only when asked for
        headers = {"x-shopify-access-token": token, "shopify-search-query-debug": "1"}
        secret = replace(query, secrets=(*query.secrets, token))
        return blocking.run(self._session.send(secret, headers=headers))

    def _token(self) -> str:
        return self._access_token or _tokens.get(self._account, self._new_grant)

    def _new_grant(self) -> Grant:
        form = {"grant_type": "client_credentials"} | self._app
        return blocking.run(self._session.send(replace(api.grant(), form=form)))


def _account(*parts: str) -> str:
    """A name for an app on a shop, which gives nothing away; another secret is another name."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


class _Tokens:
    """The tokens of this process by account; never written anywhere."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[str, float]] = {}

    def get(self, account: str, new_grant: Callable[[], Grant]) -> str:
        """The account's token; one thread gets a new one while the others wait for it."""
        with self._lock_of(account):
            token, good_until = self._kept.get(account, ("", 0.0))
            if time.monotonic() < good_until:
                return token
            asked_at = time.monotonic()
            grant = new_grant()
            lifetime = grant.lifetime - _RENEWED_BEFORE_ITS_END
            self._kept[account] = (grant.token, asked_at + lifetime.total_seconds())
            return grant.token

    def forget(self, account: str, token: str) -> None:
        """Do not use this token again; another thread may have got a new one already."""
        with self._lock_of(account):
            if self._kept.get(account, ("", 0.0))[0] == token:
                del self._kept[account]

    def _lock_of(self, account: str) -> threading.Lock:
        return self._locks.setdefault(account, threading.Lock())


_tokens = _Tokens()
