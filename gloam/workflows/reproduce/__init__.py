"""A paper's table again: rows, what each needs, published values beside ours."""
