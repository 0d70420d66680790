"""The parts of the guided attack: where to move a candidate, and what the answers tell."""
