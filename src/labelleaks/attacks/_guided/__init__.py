"""Parts of the guided attack: ascent directions of a reference-model ensemble, and the posterior over log-odds."""
