"""The engine of the flows: find, read, choose, act, report."""
