"""Judging: reports for people."""
