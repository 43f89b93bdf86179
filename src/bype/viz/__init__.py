"""Pictures and charts: arrays and metrics in, images out."""
