"""Who may ask for what, and how often: API keys, limits, and what was used."""
