"""HTTP for any API: calls, connections, retries, rate limits."""
