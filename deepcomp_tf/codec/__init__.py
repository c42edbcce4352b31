"""Bytes: the file format, the entropy coder, tiles, image files, and `codec.Codec`."""
