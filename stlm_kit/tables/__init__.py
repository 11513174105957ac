"""Tables of result rows: means over seeds with intervals and paired differences, as a table, text or plot."""
