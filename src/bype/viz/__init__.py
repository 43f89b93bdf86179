"""Images and charts made of arrays and metrics."""
