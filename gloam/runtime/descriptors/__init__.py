"""Descriptors on disk: the store, what may be read like one, other tools' formats, whitening."""
