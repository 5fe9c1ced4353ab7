"""What several verbs share: options, values, the report that a verb returns."""
