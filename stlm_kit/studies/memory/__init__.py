"""A study of memory techniques (Bahdashych 2025): BF16, FlashAttention, windows, checkpointing."""
