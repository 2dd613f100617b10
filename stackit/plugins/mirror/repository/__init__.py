"""A mirror on disk: its refs and objects, leftovers and repairs, signs of tampering, the disk that it is on."""
