"""What Dagster sees: assets, checks, sensors, schedules and jobs, a folder an asset group.

Thin by intent: an asset reads, calls a room of the package, writes and tells. Nothing heavy is imported at module level
in here: every step process and code server would pay for it.
"""
