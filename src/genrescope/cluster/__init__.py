"""Classify millions of files on a Ray cluster."""
