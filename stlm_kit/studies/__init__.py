"""Studies: what ties runs to the claims of the source documents."""
