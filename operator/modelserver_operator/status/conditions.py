"""The conditions of a ModelServer: what each says, and when its transition time moves."""
