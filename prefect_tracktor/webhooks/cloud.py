"""Prefect Cloud's own webhooks: a template for them, so that Cloud users run no receiver.

`prefect-tracktor receive template` prints it. Paste it into a webhook in Prefect Cloud, or
`prefect cloud webhook create tracktor --template "$(prefect-tracktor receive template)"`,
and give the webhook's address to Tracktor.

It gives the same names, resources and payloads as the receiver does. What Cloud cannot do:

- It does not read the parcel or order again. Whoever knows the address can make it emit any event,
  and deliveries in the wrong order give events in the wrong order. So a flow has to read what the
  event is about, and act on that.
- It does not know the spellings of exceptions: `exception_status` in the payload is as delivered.
- It does not recognise a repeated delivery: each one is an event. `occurred` is when it came.

A delivery of which nothing can be made becomes `tracktor.delivery.unreadable`, without its content:
an event that Cloud itself makes of a failure holds the whole body, and with it customers' data.
"""

import re
from importlib.resources import files

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.schema import shop_resource_id

_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACE = "@@SHOP@@"


def cloud_webhook_template(account: str) -> str:
    """The template of a Prefect Cloud webhook that takes Tracktor's deliveries.

    Args:
        account: The account's name, as its credentials give it.

    Returns:
        A Jinja template; rendered with a delivery as `body`, it gives an event as JSON.

    Raises:
        InvalidInput: It is no account name.

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
    return template.replace(_PLACE, shop_resource_id(account))
