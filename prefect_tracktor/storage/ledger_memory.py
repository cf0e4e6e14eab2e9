"""Ledger check: a Prefect Variable holds which ledger an account used last.

With a ledger that is new, replaced or emptied, every customer would get the same messages again.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists, PrefectException

from prefect_tracktor.errors import LedgerReplaced, TracktorError

# a person may set the variable to this word instead of a ledger's identity
_ANY = "accept"


@dataclass(frozen=True, slots=True)
class LedgerStanding:
    """The identity of a ledger, and the number of an account's sent notices in it."""

    ledger: str
    place: str
    sent: int


@dataclass(frozen=True, slots=True)
class LedgerMemory:
    """The Prefect Variable about an account's ledger."""

    variable: str
    server: str = ""

    @classmethod
    def of(cls, account: str, *, base_url: str = "", purpose: str = "") -> "LedgerMemory":
        server = hashlib.sha256(base_url.encode()).hexdigest()[:12] if base_url else ""
        name = "_".join(filter(None, ("tracktor_ledger", account, purpose)))
        return cls(name, server)

    def check(self, standing: LedgerStanding) -> bool:
        """Refuse another ledger, or one that lost notices; return whether a person accepted it."""
        known = self._read()
        if not known:
            return False
        if known.get("ledger") == _ANY:
            return True
        if known.get("ledger") != standing.ledger:
            raise self._replaced(standing)
        held = int(known.get("sent", 0))
        if standing.sent < held:
            raise LedgerReplaced(
                f"the ledger {standing.place} has lost notices: it holds {standing.sent} notices of"
                f" this account, and held {held}. It was emptied, restored from an older copy, or"
                f" copied without its -wal file. {self._remedy}"
            )
        return bool(known.get("accepted"))

    def keep(self, standing: LedgerStanding) -> None:
        """Record the ledger; refuse it if another run has recorded another one."""
        known = self._read()
        if known is None:
            if self._create(standing):
                return
            known = self._read() or {}  # set at this moment
        if known and known.get("ledger") not in (_ANY, standing.ledger):
            raise self._replaced(standing)
        accepted = known.get("ledger") == _ANY or bool(known.get("accepted"))
        if self._value(standing, accepted=accepted) != known:
            self._update(standing, accepted=accepted)

    def accept(self, standing: LedgerStanding) -> None:
        if self._read() is not None or not self._create(standing, accepted=True):
            self._update(standing, accepted=True)

    def _value(self, standing: LedgerStanding, *, accepted: bool) -> dict[str, Any]:
        value: dict[str, Any] = {"ledger": standing.ledger, "sent": standing.sent}
        value |= {"server": self.server} if self.server else {}
        return value | ({"accepted": True} if accepted else {})

    # `Variable.set` reads the variable before and after

    def _create(self, standing: LedgerStanding, *, accepted: bool = False) -> bool:
        """Create the variable; return `False` if it exists already."""
        new = VariableCreate(name=self.variable, value=self._value(standing, accepted=accepted))
        with _reported(), get_client(sync_client=True) as prefect:
            try:
                prefect.create_variable(new)
            except ObjectAlreadyExists:
                return False
        return True

    def _update(self, standing: LedgerStanding, *, accepted: bool) -> None:
        changed = VariableUpdate(name=self.variable, value=self._value(standing, accepted=accepted))
        with _reported(), get_client(sync_client=True) as prefect:
            prefect.update_variable(changed)

    def _read(self) -> dict[str, Any] | None:
        """Return what is recorded, `None` without a variable; nothing of another server."""
        with _reported(), get_client(sync_client=True) as prefect:
            variable = prefect.read_variable_by_name(self.variable)
        if variable is None:
            return None
        known: Any = variable.value
        if not isinstance(known, dict):  # set by a person
            return {"ledger": str(known).strip(), "accepted": True}
        is_other_server = self.server and known.get("server", self.server) != self.server
        return {} if is_other_server else known

    def _replaced(self, standing: LedgerStanding) -> LedgerReplaced:
        return LedgerReplaced(
            f"the ledger {standing.place} is not the one that this account used before;"
            f" it holds {standing.sent} of its notices. {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        return (
            "Nothing was sent, because customers might get the same email again. Check that the"
            " block Tracktor Notification Ledger has the right URL, on the machine of that"
            " database. To use this ledger from now on, accept it:"
            f" prefect variable set {self.variable} accept --overwrite (or set that variable to"
            " that word in Prefect's UI, or call the block's accept())"
        )


@contextmanager
def _reported() -> Iterator[None]:
    """Say what an error of Prefect's API means here."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise TracktorError(
            "the ledger of this account is remembered in a Prefect Variable, and Prefect's API"
            f" cannot read or write it ({type(error).__name__}): check that the API is available,"
            " and that the API key may read and write variables",
            may_have_arrived=False,
        ) from error
