"""The commands `stlm COMMAND`: they read options and print sentences; the other packages do the work."""
