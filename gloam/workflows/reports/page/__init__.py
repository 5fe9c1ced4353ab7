"""What a page is made of: its data, charts, pictures and templates."""
