"""Which numbers may be texted: allowed and denied ones, whole or by how they begin."""
