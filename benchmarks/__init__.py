"""Speed, always as ratios between ways of doing the same work, measured in one run.

`python -m benchmarks` runs everything; `python -m benchmarks.in_process`, `.over_http` and
`.startup` run a part; `.sizing` and `.replacing` are run alone. Figures of two runs, or of two
machines, are not compared: only ratios are.
"""
