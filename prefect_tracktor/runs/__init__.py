"""Engine and jobs of the flows: find, read, choose, act, report."""
