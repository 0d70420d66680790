"""Shadow and reference models: architectures, training, and what is kept of them."""
