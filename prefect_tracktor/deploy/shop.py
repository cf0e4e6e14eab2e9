"""Settings of a shop, from `flows/shops.py` or from environment variables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from prefect_tracktor import InvalidInput, StatusStage
from prefect_tracktor.saved_blocks import NAME_PATTERN, SHARED
from prefect_tracktor.setup.environment import listed, settings
from prefect_tracktor.sources.cells import flag_of


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop and its settings.

    Attributes:
        name: The name of its saved blocks. Unless it is "tracktor", the names and tags of its
            deployments contain it, too.
        timezone: The time zone of the daily schedules, such as "Europe/Berlin".
        notify: The statuses to email customers about, such as "delivered".
        announce_exceptions: Whether to emit an event for each parcel with a new exception.
        stages: The shop's own stages, youngest first; by default those in `flows/advance.py`.
        from_environment: Whether the settings come from `TRACKTOR_…` variables.
    """

    name: str = SHARED
    timezone: str = "UTC"
    notify: Sequence[str] = ()
    announce_exceptions: bool = False
    stages: Sequence[StatusStage] = ()
    from_environment: bool = False

    @property
    def prefix(self) -> str:
        """The start of the names of the shop's deployments."""
        return "" if self.name == SHARED else f"{self.name}-"

    @property
    def tags(self) -> list[str]:
        """The tags of the shop's deployments."""
        return sorted({SHARED, self.name})

    def setting(self, field: str, example: str) -> str:
        """Say how to set a field: "set TRACKTOR_TIMEZONE, such as …"."""
        if self.from_environment:
            return f"set TRACKTOR_{field.upper()}, such as {example}"
        return f"give the shop {self.name} its {field} in flows/shops.py, such as {example}"

    def check(self) -> None:
        """Refuse an invalid setting with `InvalidInput`."""
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise InvalidInput(
                f"a shop's name has lowercase letters, digits and single dashes, like the names of"
                f" blocks: {self.name!r}"
            )
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            example = self.setting("timezone", "Europe/Berlin")
            raise InvalidInput(f"there is no time zone {self.timezone!r}; {example}") from None
        if isinstance(self.notify, str):
            raise InvalidInput(f"notify: write a list, such as [{self.notify!r}]")


def shop_of_the_environment() -> Shop:
    """Return the shop that the environment and the file `.env` describe, as they do its blocks."""
    variables = settings()
    switch = "TRACKTOR_ANNOUNCE_EXCEPTIONS"
    try:
        announce_exceptions = bool(flag_of(variables.get(switch)))
    except InvalidInput as error:
        raise InvalidInput(f"{switch}: {error}") from None
    return Shop(
        timezone=variables.get("TRACKTOR_TIMEZONE") or "UTC",
        notify=listed(variables.get("TRACKTOR_NOTIFY", "")),
        announce_exceptions=announce_exceptions,
        from_environment=True,
    )
