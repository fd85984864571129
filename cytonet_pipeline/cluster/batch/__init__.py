"""What every batch system needs: jobs with their records and endings, the queue, transport of commands."""
