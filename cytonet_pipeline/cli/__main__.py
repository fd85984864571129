"""`python -m cytonet_pipeline.cli`: the command line where the script `cytonet` is not on the path."""

from cytonet_pipeline.cli import main

main()
