"""What a policy request and a message cost, ours and others', measured side by side."""
