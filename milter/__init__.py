"""Holds the visible From to the principal's own addresses before the signer sees the message."""
