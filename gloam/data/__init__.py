"""Images, sets of them, and the truth about them: files in, numpy arrays out; no torch, no GPU."""
