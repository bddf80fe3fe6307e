"""Tests are sentences: start from a healthy world, break one thing, say what follows."""
