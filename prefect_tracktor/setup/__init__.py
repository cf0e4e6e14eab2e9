"""Saved blocks as code: the names that `blocks/documents.py` uses."""

from prefect_tracktor.setup.document import (
    Document,
    mode_remark,
    one_shopify_login,
    parse_channel,
    path_of_a_file_here,
    read_only_remark,
    split_topics,
)

__all__ = [
    "Document",
    "mode_remark",
    "one_shopify_login",
    "parse_channel",
    "path_of_a_file_here",
    "read_only_remark",
    "split_topics",
]
