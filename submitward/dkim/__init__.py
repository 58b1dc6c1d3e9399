"""Keys of the signer: made, published, exchanged, and the tables that lead to them."""
