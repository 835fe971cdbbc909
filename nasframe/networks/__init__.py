"""Networks to search in, one file each."""
