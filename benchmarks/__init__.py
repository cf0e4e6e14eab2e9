"""Measured side by side in one run, as ratios: absolute figures depend on the machine."""
