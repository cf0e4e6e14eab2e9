"""Template of a Prefect Cloud webhook, for Cloud users who run no receiver.

It creates the same event names, resources and payloads as the receiver, without labels and links.
Limits of Cloud:

- It does not read the parcel or order from Tracktor. Anyone who knows the address can make it emit
  any event, and deliveries in the wrong order give events in the wrong order. A flow must read the
  parcel or order itself.
- It does not normalise exceptions: `exception_status` in the payload is as delivered.
- It does not recognize duplicates: each delivery is an event. `occurred` is the time it arrived.

An unreadable delivery becomes `tracktor.delivery.unreadable`, without its content. Without this
rule, Cloud would emit an event that contains the whole body, and with it customer data.
"""

import re
from importlib.resources import files

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.schema import shop_resource_id

_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACEHOLDER = "@@SHOP@@"


def cloud_webhook_template(account: str) -> str:
    """Return the template of a Prefect Cloud webhook that receives Tracktor's deliveries.

    It is a Jinja template; rendered with a delivery as `body`, it gives an event as JSON.

    Args:
        account: The account's name, as its credentials give it.

    Raises:
        InvalidInput: The account's name is not valid.

    Example:
        >>> from prefect.server.utilities.user_templates import render_user_template_sync
        >>> template = cloud_webhook_template(credentials.account)
        >>> delivery = {"order_id": 1001, "order_name": "#1", "statuses": ["delivered"]}
        >>> render_user_template_sync(template, {"body": delivery}).strip()[:35]
        '{"event": "tracktor.order.delivered'
    """
    if not _ACCOUNT.fullmatch(account):
        raise InvalidInput("account must be the name that TracktorCredentials.account gives")
    template = files(__package__).joinpath("cloud_webhook.json.jinja").read_text("utf-8")
    return template.replace(_PLACEHOLDER, shop_resource_id(account))
