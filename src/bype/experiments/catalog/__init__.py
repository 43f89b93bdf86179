"""The experiments, each in a file: its cells, the metrics its section needs, and the section itself."""
