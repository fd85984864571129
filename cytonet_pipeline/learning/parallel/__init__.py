"""What ranks that share a batch exchange: collectives, statistics of batch normalisations."""
