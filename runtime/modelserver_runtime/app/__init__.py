"""The composition root: settings in, a serving process out."""
