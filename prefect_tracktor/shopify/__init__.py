"""The slice of Shopify that is needed to find orders: calls, a client, and the credentials."""
