"""Reports in Prefect's UI: tables, summaries, charts and progress, as artifacts.

A report never fails the work that it reports on: when Prefect's API has trouble, a warning is
logged and the run goes on. All functions are synchronous; an asynchronous flow calls them with
`await asyncio.to_thread(...)`.
"""
