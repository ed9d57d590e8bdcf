"""How far the model's files are, from what the pods said about them."""
