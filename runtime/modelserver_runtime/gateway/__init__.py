"""The router: divides one address's traffic among the revisions of a server, and compares them."""
