"""fp16, bf16 and int8 of an exported float32 file, and the check that decides whether it is released."""

PRECISIONS = ("fp16", "bf16", "int8")  # what a float32 file may be converted to
