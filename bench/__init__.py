"""The benchmarks: launchq beside a bare script and its alternatives, on one machine, in one run. Not part of what is shipped.

`make bench` runs them all and writes docs/benchmarks.md; docs/benchmarks.md says how they measure.
"""
