"""The `pointedge` command, one file per verb."""
