"""The command line: one file a verb, each a parser and one call of the library."""
