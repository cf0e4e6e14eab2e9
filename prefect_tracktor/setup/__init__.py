"""The names that `blocks/documents.py` is written with."""

from prefect_tracktor.setup.document import Document, one_shopify_login, split_topics

__all__ = ["Document", "one_shopify_login", "split_topics"]
