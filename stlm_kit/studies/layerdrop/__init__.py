"""A proposal on LayerDrop with schedules and distillation (Mamta N. 2025)."""
