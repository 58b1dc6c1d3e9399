"""What a principal has spent and who is stopped."""
