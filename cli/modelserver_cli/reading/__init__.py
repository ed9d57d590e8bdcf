"""Pure: from objects of the cluster to what is shown of them."""
