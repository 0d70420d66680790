"""What the author of a plug-in runs: conformance rows, and targets whose leak is planted and known."""
