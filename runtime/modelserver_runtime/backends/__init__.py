"""The only torch and transformers code."""
