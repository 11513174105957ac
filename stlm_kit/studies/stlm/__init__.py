"""Super Tiny Language Models (Hillier, Guertler et al. 2024, arXiv 2405.14159)."""
