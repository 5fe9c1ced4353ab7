"""fp16, bf16 and int8 of an exported float32 file, and the check that decides whether it is released."""
