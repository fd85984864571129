"""What Dagster sees: assets, checks, sensors, schedules and jobs, with a folder per asset group.

What an asset computes is in `stages`; here are decorators, checks, resources and automation. Nothing heavy is imported
at module level: every step process and code server would pay for it. `docs/dagster.md` has the reasons for most of it.
"""
