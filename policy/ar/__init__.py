"""The language model: its forwards, and what is known of it before it is loaded."""
