"""A shop: the row of `flows/shops.py`, and where it is read from the environment."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from prefect_tracktor import InvalidInput, StatusStage
from prefect_tracktor.errors import Unusable
from prefect_tracktor.messages.email import parse_mailbox
from prefect_tracktor.saved_blocks import NAME_PATTERN, SHARED
from prefect_tracktor.setup.environment import file_of, read
from prefect_tracktor.sources.cells import flag_of


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop, and what is wished for it.

    Attributes:
        name: The name of its block documents. Unless it is "tracktor", it also goes into the names
            and tags of the shop's deployments.
        sender: Who writes to the customers, such as "Your Shop <orders@your-shop.example>".
        timezone: The time zone of the daily schedules, such as "Europe/Berlin".
        dry_run: The first days: True, and look at the tables that the runs leave.
        notify: The statuses that customers are to hear of, such as "delivered".
        announce_exceptions: Whether each parcel that gets into trouble becomes an event.
        stages: The shop's own stages, youngest first; by default those in `flows/advance.py`.
        from_environment: Whether the settings come from `TRACKTOR_…` variables.

    Example:
        >>> from prefect_tracktor.deploy import Shop
        >>> Shop("alpine", timezone="Europe/Zurich").prefix
        'alpine-'
    """

    name: str = SHARED
    sender: str = ""
    timezone: str = "UTC"
    dry_run: bool = False
    notify: Sequence[str] = ()
    announce_exceptions: bool = False
    stages: Sequence[StatusStage] = ()
    from_environment: bool = False

    @property
    def prefix(self) -> str:
        """What the names of the shop's deployments begin with."""
        return "" if self.name == SHARED else f"{self.name}-"

    @property
    def tags(self) -> list[str]:
        """What the shop's deployments are found by."""
        return sorted({SHARED, self.name})

    def setting(self, field: str, example: str) -> str:
        """How to set a field, such as "set TRACKTOR_SENDER, such as …"."""
        if self.from_environment:
            return f"set TRACKTOR_{field.upper()}, such as {example}"
        return f"give the shop {self.name} its {field} in flows/shops.py, such as {example}"

    def check(self) -> None:
        """Refuse a setting that cannot be right; the message says which and what to do."""
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise Unusable(
                f"a shop's name has lowercase letters, digits and single dashes, like the names of"
                f" blocks: {self.name!r}"
            )
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            example = self.setting("timezone", "Europe/Berlin")
            raise Unusable(f"there is no time zone {self.timezone!r}; {example}") from None
        if isinstance(self.notify, str):
            raise Unusable(f"notify: write a list, such as [{self.notify!r}]")
        if self.sender:
            self._check_sender()

    def _check_sender(self) -> None:
        try:
            parse_mailbox(self.sender, field="sender")
        except InvalidInput as problem:
            raise Unusable(str(problem)) from None


def shop_of_the_environment() -> Shop:
    """The one shop that is set up by environment variables, as its blocks are.

    A variable that is not set is looked for in the file `.env` of the working directory.

    Returns:
        The shop.

    Raises:
        Unusable: A variable cannot be right; nothing is guessed.
    """
    variables = settings()
    return Shop(
        sender=variables.get("TRACKTOR_SENDER", ""),
        timezone=variables.get("TRACKTOR_TIMEZONE") or "UTC",
        dry_run=_switch(variables, "TRACKTOR_DRY_RUN"),
        notify=_listed(variables.get("TRACKTOR_NOTIFY", "")),
        announce_exceptions=_switch(variables, "TRACKTOR_ANNOUNCE_EXCEPTIONS"),
        from_environment=True,
    )


def settings() -> dict[str, str]:
    """What is set in the environment, or else in the file `.env` of the working directory."""
    return read(file_of(None), os.environ)


def braked(shop: Shop, variables: Mapping[str, str]) -> Shop:
    """A shop with `TRACKTOR_DRY_RUN` taken in, which makes the runs of all shops dry."""
    return replace(shop, dry_run=shop.dry_run or _switch(variables, "TRACKTOR_DRY_RUN"))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name for item in text.split(",") if (name := item.strip()))


def _switch(environment: Mapping[str, str], name: str) -> bool:
    try:
        return bool(flag_of(environment.get(name)))
    except InvalidInput as problem:
        raise Unusable(f"{name}: {problem}") from None
