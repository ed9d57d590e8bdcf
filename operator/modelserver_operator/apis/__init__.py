"""The ModelServer resource as types; the CRD is generated from them."""
