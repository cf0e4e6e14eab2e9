"""Proxies that the environment sets."""

from contextlib import AbstractContextManager
from importlib import import_module
from urllib.request import getproxies, proxy_bypass

import httpx

from prefect_tracktor.errors import InvalidInput, replaced_errors


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment sets for an address."""
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.host):
        return None
    with proxy_errors():
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
        if proxy.url.scheme.startswith("socks"):
            import_module("socksio")
        return proxy


def proxy_errors() -> AbstractContextManager[None]:
    """Replace httpx's errors about a proxy, which may hold its password."""
    return replaced_errors(
        (ValueError, ImportError, httpx.InvalidURL),
        lambda _error: InvalidInput(
            "the proxy in HTTPS_PROXY (or HTTP_PROXY, ALL_PROXY) cannot be used: set an address"
            " such as http://proxy.example:3128; socks5:// needs pip install 'httpx[socks]'"
        ),
    )
