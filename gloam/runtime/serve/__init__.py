"""A service over HTTP: descriptors, search and poses of single images."""
