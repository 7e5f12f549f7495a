"""Downloads published data sets: interrupted downloads continue, checksums are checked, unpacking is safe."""
