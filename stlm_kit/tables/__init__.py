"""Rows as people read them: means over seeds with intervals, paired differences, as a table, text or picture."""
