"""What it costs to go further: workers, candidates, reference models; and a forecast on paper from that."""
