"""What is read from strangers, fed with anything: a result, or one clear line, and nothing written elsewhere."""
