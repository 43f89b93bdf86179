"""Who is told of each epoch, one file each."""
