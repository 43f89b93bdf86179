"""Trackers: one file for each place that the epochs of a training run are reported to."""
