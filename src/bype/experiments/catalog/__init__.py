"""One file per experiment: its cells, the metrics its section needs, and the section of the results page."""
