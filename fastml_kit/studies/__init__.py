"""Studies: one method a module; each takes and returns models, graphs or numbers with a source."""
