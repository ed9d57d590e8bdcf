"""The ModelServer operator."""
