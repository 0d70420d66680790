"""From what a user brings (arrays, frames, files, torch data sets) to candidates."""
