"""Reports in Prefect's UI: tables, summaries, charts and progress, as artifacts.

An error of Prefect's API never fails the run: it is logged as a warning. All functions are
synchronous; an asynchronous flow calls them with `await asyncio.to_thread(...)`.
"""
