"""What `stlm COMMAND` does: options in, sentences out; the work is done by the rooms below."""
