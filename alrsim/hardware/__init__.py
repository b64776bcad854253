"""Machines as values: precisions, units, links; and the YAML profiles that describe real ones."""
