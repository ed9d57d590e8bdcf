"""Questions whose answers are known, asked of a server before anybody else may ask it."""
