"""Shopify's API as far as finding orders needs it: calls, a client, and the credentials."""
