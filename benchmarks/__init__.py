"""Speed and scale of alrsim, with ratios taken in the same run; never part of the tests."""
