"""DistilQwen3, a poster on shared layers, bottlenecks and distillation (Yuchi, Jo, Xue, Li 2025)."""
