"""Benchmarks: ratios between two ways in one run, as absolute figures depend on the machine."""
