"""Back-ends: how training and other long steps reach the machine that runs them. No Dagster, no torch."""
