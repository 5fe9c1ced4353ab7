"""The second look: a camera's night as cameras take it, and a street that changes between visits."""
