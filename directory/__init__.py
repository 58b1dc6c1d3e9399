"""Who a principal is and what it owns."""
