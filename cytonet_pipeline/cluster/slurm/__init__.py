"""Slurm as a back-end: its commands and what they print, the job script, site profile, check-up."""
