"""How often requests may start within this process."""

import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

_limiters: dict[tuple[str, float], "Limiter"] = {}
_lock = threading.Lock()  # a cache decorator would let two threads make two of a kind


def rate_limiter(account: str, requests_per_second: float) -> "Limiter":
    """The one limiter of an account in this process, whatever the number of its clients."""
    from pyrate_limiter import Limiter, Rate  # most accounts have no rate, and it takes 20 ms

    key = (account, requests_per_second)
    with _lock:
        if key not in _limiters:
            at_once = max(1, int(requests_per_second))
            window_ms = math.ceil(at_once / requests_per_second * 1000)
            _limiters[key] = Limiter(Rate(at_once, window_ms))
        return _limiters[key]
