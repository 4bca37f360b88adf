"""Memory of a run: what the dry run expects beside what a run takes."""
