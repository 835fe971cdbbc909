"""What nasframe is measured against: other implementations of the same searches, one file each."""
