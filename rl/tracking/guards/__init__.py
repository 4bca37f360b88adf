"""Monitors of reward hacking and of a sick run: what is measured, what is watched, and the alarms."""
