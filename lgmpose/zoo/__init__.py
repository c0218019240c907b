"""Build networks by name; read and write weights."""
