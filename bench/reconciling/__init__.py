"""Parts of the operator's benchmark."""
