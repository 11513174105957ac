"""figures/report.html: what was run, on what, what it showed and what it answers."""
