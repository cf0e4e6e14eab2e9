"""Prefect blocks, tasks and ready-made flows for Tracktor, the order tracking of Shopify stores."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from prefect_tracktor.lazy import imported_when_used

if TYPE_CHECKING:
    from prefect_tracktor.bulk import Batch as Batch
    from prefect_tracktor.bulk import Failure as Failure
    from prefect_tracktor.client import AsyncTracktorClient as AsyncTracktorClient
    from prefect_tracktor.client import TracktorClient as TracktorClient
    from prefect_tracktor.conditions import Condition as Condition
    from prefect_tracktor.conditions import conditions_of as conditions_of
    from prefect_tracktor.conditions import most_urgent as most_urgent
    from prefect_tracktor.credentials import TracktorCredentials as TracktorCredentials
    from prefect_tracktor.errors import APIConnectionError as APIConnectionError
    from prefect_tracktor.errors import AuthenticationError as AuthenticationError
    from prefect_tracktor.errors import BatchFailed as BatchFailed
    from prefect_tracktor.errors import ChannelError as ChannelError
    from prefect_tracktor.errors import IncompleteRun as IncompleteRun
    from prefect_tracktor.errors import InvalidInput as InvalidInput
    from prefect_tracktor.errors import InvalidResponse as InvalidResponse
    from prefect_tracktor.errors import LimitExceeded as LimitExceeded
    from prefect_tracktor.errors import NotFound as NotFound
    from prefect_tracktor.errors import RateLimited as RateLimited
    from prefect_tracktor.errors import ReadOnlyAccount as ReadOnlyAccount
    from prefect_tracktor.errors import ServerError as ServerError
    from prefect_tracktor.errors import TracktorError as TracktorError
    from prefect_tracktor.errors import UnprocessableValue as UnprocessableValue
    from prefect_tracktor.http.limits import TransportLimits as TransportLimits
    from prefect_tracktor.messages.http_channel import HttpChannel as HttpChannel
    from prefect_tracktor.messages.mailer import Mailer as Mailer
    from prefect_tracktor.messages.mailer import Mode as Mode
    from prefect_tracktor.messages.oauth2 import OAuth2 as OAuth2
    from prefect_tracktor.messages.template import Brand as Brand
    from prefect_tracktor.messages.template import EmailTemplate as EmailTemplate
    from prefect_tracktor.messages.template import Words as Words
    from prefect_tracktor.models import Carrier as Carrier
    from prefect_tracktor.models import ExceptionStatus as ExceptionStatus
    from prefect_tracktor.models import Fulfillment as Fulfillment
    from prefect_tracktor.models import LineItem as LineItem
    from prefect_tracktor.models import Order as Order
    from prefect_tracktor.models import OrderFacts as OrderFacts
    from prefect_tracktor.models import ShipmentStatus as ShipmentStatus
    from prefect_tracktor.models import StatusOption as StatusOption
    from prefect_tracktor.models import TrackingStatus as TrackingStatus
    from prefect_tracktor.models import Webhook as Webhook
    from prefect_tracktor.models import WebhookTopic as WebhookTopic
    from prefect_tracktor.rules import NotificationRule as NotificationRule
    from prefect_tracktor.runs.reading import ReadingOptions as ReadingOptions
    from prefect_tracktor.shopify.credentials import ShopifyCredentials as ShopifyCredentials
    from prefect_tracktor.sources import EventOrders as EventOrders
    from prefect_tracktor.sources import OrderFile as OrderFile
    from prefect_tracktor.sources import ShopifyOrders as ShopifyOrders
    from prefect_tracktor.sources import StatusFile as StatusFile
    from prefect_tracktor.sources import StatusQuery as StatusQuery
    from prefect_tracktor.statuses.desired import DesiredStatus as DesiredStatus
    from prefect_tracktor.statuses.plan import StatusStage as StatusStage
    from prefect_tracktor.storage.completed_orders import CompletedOrders as CompletedOrders
    from prefect_tracktor.storage.ledger import NotificationLedger as NotificationLedger
    from prefect_tracktor.thresholds import ThresholdOverride as ThresholdOverride
    from prefect_tracktor.thresholds import Thresholds as Thresholds
    from prefect_tracktor.tracking.rows import tracking_rows as tracking_rows
    from prefect_tracktor.webhooks.subscriptions import WantedWebhook as WantedWebhook
    from prefect_tracktor.webhooks.subscriptions import WebhookSubscription as WebhookSubscription

    __all__: list[str]
else:  # or type checkers would believe in any name
    __getattr__, __dir__, __all__ = imported_when_used(__name__)

__version__ = version("prefect-tracktor")
