"""What the papers claim, what this program measures for it on this host, and the verdict by a stated rule."""
