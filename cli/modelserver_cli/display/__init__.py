"""Pure: from what is known to lines of text for a terminal or a pipe."""
