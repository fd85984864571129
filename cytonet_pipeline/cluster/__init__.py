"""Launchers: how a training is handed to a machine that runs it. No Dagster, no torch."""
